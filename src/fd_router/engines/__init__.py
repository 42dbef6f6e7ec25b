"""What differs between inference engines: one dialect a file, FastDeploy first."""
