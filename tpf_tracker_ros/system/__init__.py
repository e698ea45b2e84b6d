"""What touches the machine: compiling on the user's side, processes."""
