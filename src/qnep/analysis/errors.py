"""What can be wrong with a trajectory."""


class TrajectoryError(ValueError):
    """A trajectory cannot be read, or its frames do not belong together."""


class TruncatedFrame(Exception):
    """The file ends within a frame."""

    def __init__(self, index: int):
        super().__init__(f"frame {index} is cut off")
        self.index = index
