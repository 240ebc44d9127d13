"""Choose pairs of images to match.

For few images all pairs. Otherwise neighbours in the order of the capture (all close ones, further ones at doubling
distances), and the most similar images of each image, which closes loops. Similarity compares one
VLAD vector per image (Jegou et al. 2010: sums of residuals of local descriptors to a small codebook), made
from the SIFT descriptors of the matching itself, so that no vocabulary has to be downloaded.
"""

import numpy as np
from jaxtyping import Float

ALL_PAIRS = 50
_NEIGHBOURS = 8
_WORDS = 48
_DESCRIPTORS_PER_IMAGE = 600


def choose_pairs(descriptors: list[np.ndarray], *, is_sequence: bool, seed: int) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, sorted.

    Args:
        descriptors: for each image its SIFT descriptors, (n, 128) uint8, n may be 0.
        is_sequence: the order is that of a video; then fewer similar images are needed.
        seed: of the codebook.
    """
    n = len(descriptors)
    if n <= ALL_PAIRS and not is_sequence:
        return [(i, j) for i in range(n) for j in range(i + 1, n)]
    steps = {*range(1, _NEIGHBOURS + 1), *(2**k for k in range(4, 8))}
    pairs = {(i, i + step) for i in range(n) for step in steps if i + step < n}
    likeness = vlad(descriptors, seed)
    likeness = likeness @ likeness.T
    np.fill_diagonal(likeness, -np.inf)
    alike = min(n - 1, 8 if is_sequence else 20)
    for i in range(n):
        for j in np.argsort(-likeness[i], kind="stable")[:alike]:
            pairs.add((min(i, int(j)), max(i, int(j))))
    return sorted(pairs)


def vlad(descriptors: list[np.ndarray], seed: int) -> Float[np.ndarray, "views dim"]:
    """One unit vector per image; zeros for an image without descriptors."""
    from scipy.cluster.vq import kmeans2

    rng = np.random.default_rng(seed)
    sampled = []
    for found in descriptors:
        few = found[rng.permutation(len(found))[:_DESCRIPTORS_PER_IMAGE]].astype(np.float32)
        sampled.append(few / np.maximum(np.linalg.norm(few, axis=1, keepdims=True), 1e-6))
    everything = np.concatenate(sampled)
    if len(everything) < _WORDS:
        return np.zeros((len(descriptors), 1), np.float32)
    pool = everything[rng.permutation(len(everything))[:8_000]]
    words, _ = kmeans2(pool, _WORDS, iter=8, minit="points", rng=np.random.default_rng(seed))
    vectors = np.zeros((len(descriptors), _WORDS, 128), np.float32)
    for vector, few in zip(vectors, sampled):
        if len(few):
            nearest = np.argmin((words**2).sum(1) - 2.0 * few @ words.T, axis=1)
            np.add.at(vector, nearest, few - words[nearest])
    # Per word, then as a whole, so that a repeated texture (a carpet) does not decide alone.
    vectors /= np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-6)
    flat = vectors.reshape(len(descriptors), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
