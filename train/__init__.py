"""The desktop side: data, networks and fitting. Nothing on the device imports it."""
