"""What runs on the device: from a camera's frame to a stage in focus. Imports nothing heavy by itself."""

#: Asked for at every start, where to look it up among all installed packages would take longer than the rest.
__version__ = "0.1.0"
