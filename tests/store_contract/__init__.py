"""What every store has to do: one suite, run on MongoDB and on the simulator's records."""
