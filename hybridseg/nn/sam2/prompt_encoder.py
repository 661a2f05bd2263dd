"""sam2-lite's prompt encoder: SAM2's own, with points and boxes also drawn into the mask input."""

from __future__ import annotations

import torch
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from torch import Tensor

INSIDE, OUTSIDE = 1.0, -6.0
"""Logits of an empty mask input within a box (perhaps the object) and beyond it (surely not)."""
CLICK = 8.0
CLICK_PX = 6.0
"""Logit and radius (image pixels) of the disc at a point: plus for a positive one, minus for a negative one."""
NEAR, FAR = 4.0, -8.0
FAR_PX = 96.0
"""Where there are positive points only, the logits fall from NEAR at a point to FAR at this distance from it."""


class DrawingPromptEncoder(PromptEncoder):  # type: ignore[misc]
    """Points and boxes as tokens, as in SAM2, and besides as marks on the mask input.

    Tokens alone take long training: a decoder must learn to find their place by the position encoding, for which SAM
    had a thousand times our training. Marks lie at their place on the image grid from the first step, as the disc maps
    of click-based models do (Sofiiuk et al. 2022, RITM, 3.2). A mask input of zeros counts as none.
    """

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """As PromptEncoder: sparse (N, P + 1, C) and dense (N, C, S/16, S/16) embeddings."""
        if points is None and boxes is None:
            return super().forward(points, boxes, masks)
        count = self._get_batch_size(points, boxes, masks)
        canvas = torch.zeros((count, 1, *self.mask_input_size), device=self._get_device()) if masks is None else masks
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            kinds = torch.tensor([[2, 3]], device=boxes.device).expand(len(corners), 2)
            canvas = self.draw(corners, kinds, canvas)
        if points is not None:
            canvas = self.draw(*points, canvas)
        return super().forward(points, boxes, canvas)

    def draw(self, points: Tensor, labels: Tensor, masks: Tensor) -> Tensor:
        """Draw prompts into mask inputs: a disc for each point, above a filled box or a slope where the input is empty.

        Args:
            points: (N, P, 2) pixels of the model's image.
            labels: (N, P) as SAM2's: 0, 1, 2 and 3 (a box), -1.
            masks: (N, 1, M, M) logits.

        Returns:
            (N, 1, M, M) logits.
        """
        rows, cols = self.mask_input_size
        height, width = self.input_image_size
        y = ((torch.arange(rows, device=masks.device) + 0.5) * height / rows)[None, :, None]
        x = ((torch.arange(cols, device=masks.device) + 0.5) * width / cols)[None, None, :]
        first, last = (((labels == k)[..., None] * points).sum(1)[:, None, None] for k in (2, 3))
        within = (x >= first[..., 0]) & (x <= last[..., 0]) & (y >= first[..., 1]) & (y <= last[..., 1])
        boxed = (labels == 2).any(1) & (labels == 3).any(1) & ~masks.flatten(1).any(1)
        canvas = torch.where(boxed[:, None, None], torch.where(within, INSIDE, OUTSIDE).to(masks), masks[:, 0])
        empty = (labels == 1).any(1) & ~canvas.flatten(1).any(1)
        away = torch.where((labels == 1)[..., None, None], self._distance(points, y, x), torch.inf).min(1).values
        fall = NEAR + (FAR - NEAR) * (away / FAR_PX).clamp(max=1)
        canvas = torch.where(empty[:, None, None], fall, canvas)
        for k in range(points.shape[1]):
            kind = labels[:, k, None, None]
            near = self._distance(points[:, k], y, x) <= CLICK_PX
            canvas = torch.where(near & (kind == 1), CLICK, torch.where(near & (kind == 0), -CLICK, canvas))
        return canvas[:, None]

    @staticmethod
    def _distance(points: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Distance (..., M, M) of each cell from each point (..., 2), in image pixels."""
        return torch.hypot(x - points[..., 0, None, None], y - points[..., 1, None, None])
