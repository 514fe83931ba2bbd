"""The one error of this package."""


class LocalError(Exception):
    """A server or process cannot be started; the text is for the person at the terminal and says what to do."""
