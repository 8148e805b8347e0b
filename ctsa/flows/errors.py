"""What is raised when a solve ends before its time."""

from ctsa.results.base import Trajectory


class IntegrationError(RuntimeError):
    """A solve that could not reach its end time; ``trajectory`` holds the outputs that it did reach."""

    def __init__(self, message: str, trajectory: Trajectory):
        super().__init__(message)
        self.trajectory = trajectory
