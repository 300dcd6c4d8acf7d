"""Every setting of the package, typed and checked.  ``conf/*.yaml`` only fills these in.

One module per command.  This package needs nothing but the standard library, so that ``--help``
is fast.
"""
