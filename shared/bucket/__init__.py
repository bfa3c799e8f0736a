"""Everything asked of S3: how objects are named, read and written without overwriting blindly."""
