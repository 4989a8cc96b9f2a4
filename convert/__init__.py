"""The desktop side: from a fitted network to the int8 model file with its card."""
