"""What goes in: where images come from, how they are checked, changed and loaded."""
