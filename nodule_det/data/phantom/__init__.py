"""Synthetic chest CTs with known nodules: ``make.make_scan`` one, ``write.write_dataset`` many."""
