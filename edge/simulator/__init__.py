"""A microscope that is arithmetic: image formation, specimens, sensor, and the rig made of them."""
