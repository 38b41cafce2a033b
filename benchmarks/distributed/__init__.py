"""What a cluster of Ray costs against one process: scoring and searches."""
