"""Paint one blood cell among red cells, part by part.

Shapes are signed distances in px (negative inside) on the cell's own grid, which is shifted,
rotated and gently warped, so that no outline is a perfect circle. Parts are laid over each other
with soft edges. [S, S] stands for `SIZE_PX` squared.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Colour = tuple[float, float, float]

SIZE_PX = 144
FIELD_PX = 512
TEXTURE_SCALES_PX = (0.0, 1.2, 3.0, 12.0, 40.0)

BACKGROUND: Colour = (0.93, 0.89, 0.89)
RED_CELL: Colour = (0.86, 0.68, 0.66)
PALLOR: Colour = (0.92, 0.83, 0.81)
CHROMATIN: Colour = (0.42, 0.26, 0.56)
DARK_CHROMATIN: Colour = (0.30, 0.17, 0.44)
NUCLEOLUS: Colour = (0.60, 0.52, 0.78)
VACUOLE: Colour = (0.90, 0.87, 0.90)
PURPLE: Colour = (0.52, 0.22, 0.48)


class Textures:
    """Smooth random fields of several grain sizes, drawn once and cut at random places."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._fields = {scale: _smooth_field(rng, scale) for scale in TEXTURE_SCALES_PX}

    def cut(self, rng: np.random.Generator, scale_px: float) -> Array:
        """Cut a [S, S] piece with mean about 0 and s.d. about 1."""
        top, left = rng.integers(0, FIELD_PX - SIZE_PX, size=2)
        piece = self._fields[scale_px][top : top + SIZE_PX, left : left + SIZE_PX]
        return piece[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]


def _smooth_field(rng: np.random.Generator, scale_px: float) -> Array:
    frequency = np.fft.fftfreq(FIELD_PX)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2
    envelope = np.exp(-2 * (np.pi * scale_px) ** 2 * squared)
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((FIELD_PX,) * 2)) * envelope).real
    scaled: Array = ((field - field.mean()) / field.std()).astype(np.float32)
    return scaled


def _length(x: Array, y: Array) -> Array:
    """Length of vectors; np.hypot takes several times as long to be safe from overflow."""
    length: Array = np.sqrt(x * x + y * y)
    return length


def coverage(distance: Array, softness_px: float) -> Array:
    """Turn a signed distance into opacity: 1 inside, 0 outside, a soft edge between."""
    opacity: Array = np.clip(0.5 - distance / (2 * softness_px), 0, 1)
    return opacity


def join(first: Array, second: Array, *, blend_px: float) -> Array:
    """Unite two shapes with a rounded waist."""
    weight = np.clip(0.5 + 0.5 * (second - first) / blend_px, 0, 1)
    joined: Array = second + (first - second) * weight - blend_px * weight * (1 - weight)
    return joined


class CellPainter:
    """One picture in the making: a field of red cells, then the cell in its centre."""

    def __init__(self, rng: np.random.Generator, textures: Textures, *, ruggedness: float) -> None:
        """Start with an empty background.

        Args:
            rng: Decides everything that varies.
            textures: Shared fields.
            ruggedness: Amplitude of the outline's irregularity in px.
        """
        self.rng = rng
        self.textures = textures
        self.softness_px = float(rng.uniform(0.8, 1.5))
        rows, columns = np.indices((SIZE_PX, SIZE_PX), dtype=np.float32)
        self._rows, self._columns = rows, columns
        shift_x, shift_y = rng.uniform(-5, 5, size=2) + SIZE_PX / 2
        angle = rng.uniform(0, 2 * np.pi)
        x = columns - shift_x + ruggedness * self.texture(12.0)
        y = rows - shift_y + ruggedness * self.texture(12.0)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        self.x, self.y = cos * x + sin * y, cos * y - sin * x
        shade = 1 + 0.012 * self.texture(40.0)
        self.image: Array = np.array(BACKGROUND, np.float32)[:, None, None] * shade
        self.body: Array = np.full((SIZE_PX, SIZE_PX), np.inf, np.float32)
        self.nucleus: Array = self.body

    def texture(self, scale_px: float) -> Array:
        """Cut a random field of one grain size."""
        return self.textures.cut(self.rng, scale_px)

    def ellipse(self, x: float, y: float, a: float, b: float | None = None) -> Array:
        """Distance to an ellipse with half axes a and b, along the cell's axes."""
        b = a if b is None else b
        radius = _length((self.x - x) / a, (self.y - y) / b)
        distance: Array = (radius - 1) * min(a, b)
        return distance

    def segment(
        self, start: tuple[float, float], end: tuple[float, float], *, width: float
    ) -> Array:
        """Distance to a line with round ends."""
        along_x, along_y = end[0] - start[0], end[1] - start[1]
        x, y = self.x - start[0], self.y - start[1]
        share = x * (along_x / (along_x**2 + along_y**2))
        share += y * (along_y / (along_x**2 + along_y**2))
        share = np.clip(share, 0, 1)
        distance: Array = _length(x - share * along_x, y - share * along_y) - width / 2
        return distance

    def lay(self, opacity: Array, colour: Colour | Array) -> None:
        """Lay a colour, or [3, S, S] of them, over the picture where the opacity says so."""
        for plane, tone in zip(self.image, colour, strict=True):
            plane += opacity * (tone - plane)

    def lay_disc(
        self,
        x: float,
        y: float,
        radius_px: float,
        colour: Colour,
        *,
        opacity: float,
        soft_px: float,
    ) -> None:
        """Lay a disc over the picture, centred on a column and a row of it."""
        reach = radius_px + soft_px + 1
        left, top = (max(0, int(v - reach)) for v in (x, y))
        right, bottom = (max(0, int(v + reach) + 1) for v in (x, y))
        area = (slice(top, bottom), slice(left, right))
        distance = _length(self._columns[area] - x, self._rows[area] - y) - radius_px
        mask = opacity * coverage(distance, soft_px)
        for plane, tone in zip(self.image, colour, strict=True):
            plane[area] += mask * (tone - plane[area])

    def paint_red_cells(self, *, clearance_px: float) -> None:
        """Scatter red cells with their central pallor, few of them under the cell."""
        spacing = 44.0
        grid = np.arange(-0.5, SIZE_PX / spacing + 0.5)
        centres = np.array([(x, y) for x in grid for y in grid]) * spacing
        centres += self.rng.uniform(0, spacing, 2) - spacing / 2
        centres += self.rng.normal(0, 7, centres.shape)
        present = self.rng.random(len(centres)) < self.rng.uniform(0.5, 0.85)
        present &= np.hypot(*(centres - SIZE_PX / 2).T) > clearance_px
        bend = 1.2 * self.texture(12.0)
        for x, y in centres[present].tolist():
            self._paint_red_cell(x, y, bend)

    def _paint_red_cell(self, x: float, y: float, bend: Array) -> None:
        radius, flat = self.rng.uniform(18.5, 22.5), self.rng.uniform(0.9, 1.0)
        left, top = (max(0, int(v) - 28) for v in (x, y))
        area = (slice(top, max(0, int(y) + 29)), slice(left, max(0, int(x) + 29)))
        distance = _length(self._columns[area] - x, (self._rows[area] - y) / flat)
        distance += bend[area] - radius
        edge = 0.92 * coverage(distance, self.softness_px)
        pallor = 0.85 * np.clip(-0.9 - (distance + 0.25 * radius) / (0.5 * radius), 0, 1)
        for plane, red, pale in zip(self.image, RED_CELL, PALLOR, strict=True):
            plane[area] += edge * (red - plane[area])
            plane[area] += pallor * (pale - plane[area])

    def paint_body(self, distance: Array, colour: Colour) -> None:
        """Paint the cytoplasm with a finely mottled, slightly darker rim."""
        self.body = distance
        self.lay(0.97 * coverage(distance, self.softness_px), colour)
        rim = np.exp(-(((distance + 2.5) / 2.5) ** 2)) * (distance < 3)
        shade = 0.025 * self.texture(1.2) + 0.035 * self.texture(3.0) + 0.16 * rim
        self.image *= 1 - coverage(distance, self.softness_px) * shade

    def paint_nucleus(self, distance: Array, *, clumping: float, density: float) -> None:
        """Paint chromatin.

        Args:
            distance: Shape.
            clumping: 0 is fine and even, 1 coarse clumps.
            density: 0 is pale and open, 1 dark.
        """
        self.nucleus = distance
        mix = (1 - clumping) * self.texture(1.2) + clumping * 1.3 * self.texture(3.0)
        dark = np.clip(density + 0.28 * mix, 0, 1)
        membrane = 1 - 0.18 * np.exp(-(((distance + 1.5) / 1.6) ** 2))
        tones = [
            (pale * (1.12 - 0.12 * dark) * (1 - dark) + deep * dark) * membrane
            for pale, deep in zip(CHROMATIN, DARK_CHROMATIN, strict=True)
        ]
        self.lay(coverage(distance, self.softness_px), np.stack(tones))

    def paint_nucleoli(self, count: int) -> None:
        """Paint pale round nucleoli with a darker border inside the nucleus."""
        for x, y in self.scatter(self.nucleus, count, margin_px=8).tolist():
            radius = self.rng.uniform(3.6, 5.2)
            self.lay_disc(x, y, radius + 1.6, DARK_CHROMATIN, opacity=0.3, soft_px=1.2)
            self.lay_disc(x, y, radius, NUCLEOLUS, opacity=0.75, soft_px=1.2)

    def paint_granules(
        self, count: int, *, radius_px: float, colour: Colour, opacity: float, over: bool = False
    ) -> None:
        """Scatter granules over the cytoplasm, and over the nucleus where ``over`` is set."""
        inside = self.body if over else np.maximum(self.body, -self.nucleus)
        points = self.scatter(inside, count, margin_px=radius_px)
        reach = int(np.ceil(radius_px + 2))
        offsets = np.arange(-reach, reach + 1)
        rows = np.rint(points[:, 1])[:, None, None] + offsets[:, None]
        columns = np.rint(points[:, 0])[:, None, None] + offsets[None, :]
        radii = radius_px * self.rng.uniform(0.75, 1.2, len(points))[:, None, None]
        spread = np.hypot(rows - points[:, 1, None, None], columns - points[:, 0, None, None])
        disc = np.clip(0.5 - (spread - radii) / 1.4, 0, 1)
        rows, columns = np.broadcast_arrays(rows, columns)
        kept = (rows >= 0) & (rows < SIZE_PX) & (columns >= 0) & (columns < SIZE_PX)
        mask = np.zeros((SIZE_PX, SIZE_PX), np.float32)
        where = (rows[kept].astype(int), columns[kept].astype(int))
        np.maximum.at(mask, where, disc[kept].astype(np.float32))
        self.lay(opacity * mask, colour)

    def paint_vacuoles(self, count: int) -> None:
        """Punch clear round holes into cytoplasm and nucleus."""
        for x, y in self.scatter(self.body, count, margin_px=5).tolist():
            radius = self.rng.uniform(1.8, 3.6)
            self.lay_disc(x, y, radius, VACUOLE, opacity=0.8, soft_px=1.0)

    def scatter(self, distance: Array, count: int, *, margin_px: float) -> NDArray[np.float64]:
        """Draw points (column, row) at least the margin inside a shape; fewer if it is small."""
        candidates = np.flatnonzero(distance < -margin_px)
        if not len(candidates):
            return np.empty((0, 2))
        chosen = self.rng.choice(candidates, size=min(count, len(candidates)), replace=False)
        rows, columns = np.divmod(chosen, SIZE_PX)
        return np.stack([columns, rows], axis=1) + self.rng.uniform(-0.5, 0.5, (len(chosen), 2))

    def add_noise(self, amplitude: float) -> None:
        """Add the camera's noise, independent in every channel."""
        for plane in self.image:
            plane += amplitude * self.texture(0.0)

    def scatter_local(self, distance: Array, *, margin_px: float) -> tuple[float, float]:
        """Draw one point inside a shape, in the cell's own coordinates."""
        inside = np.flatnonzero(distance < -margin_px)
        chosen = self.rng.choice(inside) if len(inside) else int(np.argmin(distance))
        return float(self.x.flat[chosen]), float(self.y.flat[chosen])


def match_colour(image: Array, mean: Array, deviation: Array) -> NDArray[np.uint8]:
    """Bring each channel to a given mean and s.d. by an affine map, and to 8 bits.

    Args:
        image: [3, S, S] in 0 … 1.
        mean: [3] target of each channel, 0 … 1.
        deviation: [3] target, above 0.

    Returns:
        [S, S, 3].
    """
    for _ in range(3):  # clipping disturbs both numbers; repeated, the disturbance fades
        centre, spread = image.mean(axis=(1, 2)), image.std(axis=(1, 2))
        gain = deviation / spread
        offset = mean - centre * gain
        image = np.clip(image * gain[:, None, None] + offset[:, None, None], 0, 1)
    return np.ascontiguousarray(np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0))
