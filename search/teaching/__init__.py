"""Teaching a catalogue: a head trained on what staff labelled, and the gate that it must pass before it serves."""
