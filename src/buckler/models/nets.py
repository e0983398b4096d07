"""Small networks for data that ships with Buckler."""

from torch import Tensor, nn


class DigitsCNN(nn.Module):
    """Two convolutions and two linear layers for 8×8 grey images: 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
            nn.Linear(128, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x - 0.3)
        return logits


def digits_cnn() -> nn.Module:
    """A fresh net; its weights depend on torch's global seed."""
    return DigitsCNN()
