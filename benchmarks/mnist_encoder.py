"""The encoders of networks on MNIST: what the blocks of a network start from.

THESIS 3.3 assumes an encoder that is pretrained and fixed, and "relaxes" this in experiments
without saying in which; BLOCK and THESIS G.2 have a fixed one. The authors' programs offer both: an
encoder that is trained with the rest, or that of an autoencoder, frozen. It has two convolutions
with biases and without batch norm; its weights were not published. Images are normalized.
"""

from functools import cache

import torch
from digits import Split
from mnist import RESERVED, Drawn, mnist
from torch import nn
from torch.nn import functional as F

from fxtransport.nets import resnet_m

MEAN, STD = 0.13066, 0.30811
"""Of all pixels of MNIST's training images, in the authors' programs."""
EPOCHS, BATCH, LR, SEED = 6, 50, 1e-3, 7


def normalize(drawn: Drawn) -> Drawn:
    """Images of mean 0 and standard deviation 1."""
    return Drawn(*(Split((split.images - MEAN) / STD, split.classes) for split in drawn))


@cache
def pretrained() -> nn.Module:
    """The encoder of an autoencoder of the reserved images, frozen: 1×28×28 to 32×14×14.

    Networks are neither trained nor tested on these images. Adam, 60 steps: the first epochs
    leave an error of 3 % of the variance.
    """
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        encoder = resnet_m(1, encoder_norm=False, init=None).encoder
        decoder = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 5, stride=2, padding=2, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 3, padding=1),
        )
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], LR)
        images = (mnist().images[:RESERVED] - MEAN) / STD
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(images)).split(BATCH):
                optimizer.zero_grad()
                F.mse_loss(decoder(encoder(images[chosen])), images[chosen]).backward()
                optimizer.step()
    return encoder.requires_grad_(False).eval()


def encoded(drawn: Drawn, encoder: nn.Module) -> Drawn:
    """Everything after an encoder that is not trained."""
    encoder.to(drawn.train.images.device)
    with torch.no_grad():
        return Drawn(*(Split(encoder(split.images), split.classes) for split in drawn))
