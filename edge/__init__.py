"""What runs on the device: from a camera's frame to a stage in focus. Imports nothing heavy by itself."""
