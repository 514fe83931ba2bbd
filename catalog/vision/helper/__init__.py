"""Reading files that strangers send, in processes that may be killed for it.

A decoder written in C, fed by a stranger, may crash, never end or take all memory there is. So `inspect` and
`read_image` have it done by a child (child.py) with limits of its own: catalog.vision.decode.MOST_MEMORY of memory,
children.SECONDS of time. It is handed a file and shared memory and answers in JSON, of which nothing is believed
(messages.py). Where it dies or is killed, the file is refused and the next one gets another child.
"""

from catalog.vision.helper.client import Inspected, Normalised, inspect, prepare, prepare_to_inspect, read_image

__all__ = ["Inspected", "Normalised", "inspect", "prepare", "prepare_to_inspect", "read_image"]
