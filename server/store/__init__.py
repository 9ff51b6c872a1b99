"""MongoDB, through Motor. Nothing outside this folder imports the driver."""
