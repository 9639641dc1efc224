"""Files, locks, signals, processes, the console and errors. Imports no torch."""
