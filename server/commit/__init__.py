"""Group commit: commands queue in lanes and are carried out batch by batch, each batch at once."""
