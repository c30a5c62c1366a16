"""The root of the errors that name something a user can mend."""


class AmlMilError(Exception):
    """Data, weights or results on disk are not what was expected; the message says what to do."""
