"""`parfocal serve`: in focus when it boots, then at the service of page, button, signal and clock."""
