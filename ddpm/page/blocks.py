"""The app's pages as Gradio's blocks, whose events never fail without a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.exceptions import Error

UNDONE = "The server could not carry out this request; please check the values that it was sent."


class Blocks(gr.Blocks):
    """``gr.Blocks`` that tell a program, too, why an event failed; Gradio's own answer ``{"error": null}``."""

    async def process_api(self, block_fn: BlockFunction | int, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """As Gradio's. Raises gr.Error, in one sentence, for whatever goes wrong; the log has the rest."""
        try:
            return await super().process_api(block_fn, inputs, *args, **kwargs)
        except Error:
            raise
        except Exception as error:
            raise gr.Error(UNDONE) from error

    def validate_inputs(self, block_fn: BlockFunction, inputs: Sequence[Any]) -> None:
        """Raises gr.Error where there are fewer inputs than the event takes."""
        if (given := len(inputs)) < (wanted := len(block_fn.inputs)):
            raise gr.Error(
                f"The request has {given} of the {wanted} values that this event takes.", print_exception=False
            )
