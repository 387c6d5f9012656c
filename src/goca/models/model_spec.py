"""What goca knows of a model."""

from __future__ import annotations

from dataclasses import dataclass

from goca._moved import renamed


@renamed(all_parameters="total_parameters", familiar_error="ood_threshold")
@dataclass(frozen=True)
class ModelSpec:
    """A model and the settings its segmentation works best with.

    Attributes:
        name: what users type.
        pipelines: diffusers pipeline classes the model may be saved as.
        source: hub id or local folder.
        rest_source: hub id or local folder of the other components where ``source`` holds a denoiser alone.
        image_size: side of the square image, in pixels, the model was trained on.
        timestep: noise level of the one forward, of 1000, as a whole number.
        schedule_steps: steps of the schedule on which it lies, see :attr:`exact_timestep`.
        reference_layer: layer that gives the reference features; blank where this and the next settings are derived
            from the architecture when the model is loaded, see :meth:`goca.backbones.Backbone.derive_settings`.
        refine_layers: blocks whose self-attention refines the maps.
        refine_order: how often it is applied.
        preset: the method's preset that works best with this model, used unless the caller names one.
        head_rule: rule for heads where the method does not name one.
        layer_rule: rule for layers where the method does not name one.
        cross_layers: blocks whose cross-attention is aggregated; ``None`` for all.
        vanilla_layers: blocks that the published plain average takes instead; ``None`` for the same ones.
        vanilla_refine_layers: blocks that refine it; ``None`` for the same ones.
        manual_layers: hand-picked blocks of the "manual" baseline; empty where none were published.
        output_grid: side of the maps' grid.
        description: one line for people.
        parameters: size of the denoiser.
        total_parameters: size of all components together.
        published: whether the settings are those of the published experiments.
        vocabulary: all words an embedded model knows; ``None`` for models of open vocabulary.
        ood_threshold: mean squared error of the predicted clean latent above which an image is not of the model's
            world; only for models that predict the clean latent.
    """

    name: str
    pipelines: tuple[str, ...]
    source: str
    image_size: int
    reference_layer: str = ""
    refine_layers: tuple[str, ...] = ()
    refine_order: int = 0
    timestep: int = 100
    schedule_steps: int = 1000
    preset: str = "paper"
    head_rule: str = "dot-product w/o clamp"
    layer_rule: str = "dot-product similarity"
    cross_layers: tuple[str, ...] | None = None
    vanilla_layers: tuple[str, ...] | None = None
    vanilla_refine_layers: tuple[str, ...] | None = None
    manual_layers: tuple[str, ...] = ()
    output_grid: int = 64
    description: str = ""
    parameters: int | None = None
    total_parameters: int | None = None
    published: bool = False
    vocabulary: tuple[str, ...] | None = None
    ood_threshold: float | None = None
    rest_source: str | None = None

    @property
    def exact_timestep(self) -> int | float:
        """The noise level before rounding: the step of the schedule with ``schedule_steps`` evenly spaced steps that
        ``timestep`` rounds, 1000 * 5 / 28 for FLUX.1 dev; ``timestep`` itself where it rounds none."""
        exact = round(self.timestep * self.schedule_steps / 1000) * 1000 / self.schedule_steps
        return exact if round(exact) == self.timestep else self.timestep

    @property
    def memory_gib(self) -> float | None:
        """What the weights take in 16 bits."""
        return None if self.total_parameters is None else self.total_parameters * 2 / 2**30
