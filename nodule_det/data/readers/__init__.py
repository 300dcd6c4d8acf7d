"""DICOM, MetaImage and NIfTI files as HU volumes in LPS."""
