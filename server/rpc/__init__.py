"""The gRPC edge: who may call, what is well-formed, and how answers and errors look on the wire."""
