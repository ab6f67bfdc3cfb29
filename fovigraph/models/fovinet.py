"""FoviNet: an eye that looks several times, and a graph network that sees."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from fovigraph import _compose
from fovigraph._checks import flag, instance, path_of, positive_int, shown, whole_number
from fovigraph._compose import checked
from fovigraph._deprecated import moved
from fovigraph._pictures import facts_html, pyramid_html
from fovigraph._tensors import float_tensor
from fovigraph.graph import GraphPyramid
from fovigraph.models._registry import build_backbone
from fovigraph.models.aggregation import Aggregation, make_aggregation
from fovigraph.models.backbone import Intermediate
from fovigraph.models.calibration import Calibration, MultiLabelCalibration, calibration_of
from fovigraph.models.channels import input_adapter, with_channels
from fovigraph.models.config import FoviConfig
from fovigraph.models.heads import Projector, checked_names, classes_asked_for, make_head
from fovigraph.models.hub import push_to_hub
from fovigraph.models.predict import Prediction, predictions
from fovigraph.models.pretrained import HubOptions, find_pretrained, load_weights, save_pretrained
from fovigraph.models.wrapped import unwrapped
from fovigraph.sensing import Retina, policy_of
from fovigraph.sensing.fixation import Fixations
from fovigraph.sensing.image import check_images
from fovigraph.sensing.retina_config import OPTIONS as RETINA_OPTIONS

_SHOWN_NAMES = 20
"""Classes that a notebook names."""


class FoviOutput(NamedTuple):
    """What a :class:`FoviNet` computed of B images at F fixations each.

    Attributes:
        logits: Class logits of the image, ``[B, classes]``; in evaluation, their softmax are the
            calibrated probabilities of the classes (:attr:`probabilities`).
        embeddings: The projector's output at each fixation, ``[B, F, D]``.
        fixations: Where it looked, (row, column) in [0, 1], ``[B, F, 2]``.
        fixation_logits: Class logits of each fixation alone, ``[B, F, classes]``.
        features: The backbone's output at each fixation, ``[B, F, M · D]``.
        fixation_sizes: Size (height, width) of each view in pixels, ``[B, F, 2]``.
        probabilities: Of the classes, ``[B, classes]``.
        fixation_probabilities: Of the classes by each fixation alone, ``[B, F, classes]``.
    """

    logits: Tensor
    embeddings: Tensor
    fixations: Tensor
    fixation_logits: Tensor
    features: Tensor
    fixation_sizes: Tensor

    @property
    def probabilities(self) -> Tensor:
        return Calibration.probabilities(self.logits)

    @property
    def fixation_probabilities(self) -> Tensor:
        return Calibration.probabilities(self.fixation_logits)

    def cpu(self) -> FoviOutput:
        """Return the output on the CPU."""
        return type(self)(*(part.cpu() for part in self))

    def __repr__(self) -> str:
        parts = zip(self._fields, self, strict=True)
        shapes = ", ".join(f"{name}={list(part.shape)}" for name, part in parts)
        return f"{type(self).__name__}({shapes})"


class MultiLabelOutput(FoviOutput):
    """The same of a network whose classes each have a probability of their own: a sigmoid."""

    __slots__ = ()

    @property
    def probabilities(self) -> Tensor:
        return MultiLabelCalibration.probabilities(self.logits)

    @property
    def fixation_probabilities(self) -> Tensor:
        return MultiLabelCalibration.probabilities(self.fixation_logits)


class FoviNet(nn.Module):
    """Retina, fixation policy, backbone, projector and probe, averaged over fixations.

    Each fixation is an independent view, folded into the batch. ``logits`` are the mean over
    fixations of their logits while training, and the logarithm of the mean of their softmax
    probabilities in evaluation (FOVI, Blauch, Alvarez & Konkle 2026), unless the configuration's
    ``head.aggregation`` puts fixations together in another way. There they are calibrated if
    the configuration's ``head.temperature`` and ``head.sharpening`` say so (:meth:`calibrate`).
    With ``head.multi_label``, an image may have several classes: each has a probability of its own,
    the sigmoid of its logit, of which the mean over fixations is taken.

    Args:
        config: A configuration (:func:`fovigraph.load_config`), or a mapping of the same form
            (OmegaConf's too).

    Attributes:
        config: The configuration, complete.
        pyramid: The :class:`~fovigraph.GraphPyramid` that the backbone is built on.

    Raises:
        ConfigError, ValueError, TypeError: If the configuration does not describe a network.

    Example:
        >>> import torch, fovigraph as fg
        >>> net = fg.FoviNet(fg.load_config("fovi_tiny")).eval()
        >>> net(torch.rand(2, 3, 96, 128)).logits.shape
        torch.Size([2, 10])
    """

    config: FoviConfig

    def __init__(self, config: FoviConfig | Mapping[str, Any]):
        super().__init__()
        self.config = config = checked(config, FoviConfig)
        array = config.retina.array()
        self.fixation_policy = policy_of(config.fixation)
        self.retina = Retina(
            array,
            config.retina.sampling,
            **{name: getattr(config.retina, name) for name in RETINA_OPTIONS},
        )
        self.backbone = build_backbone(config.backbone, array, config.retina.channels)
        self.projector = Projector(
            self.backbone.num_features,
            config.projector.channels,
            norm=config.projector.norm,
            dropout=config.projector.dropout,
            last_relu=config.projector.last_relu,
        )
        self.head = make_head(
            self.projector.out_features, config.head.num_classes, config.head.dropout
        )
        self.aggregation = self._make_aggregation()

    def _make_aggregation(self) -> Aggregation:
        head = self.config.head
        return make_aggregation(
            head.aggregation,
            head.num_classes,
            width=head.aggregation_width,
            dropout=head.dropout,
            multi_label=head.multi_label,
        )

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of the logits; their numbers if they have none."""
        return class_names_of(self.config)

    @property
    def calibration(self) -> Calibration:
        """How fixations' logits become calibrated probabilities in evaluation."""
        head = self.config.head
        kind = calibration_of(multi_label=head.multi_label, joint=head.joint)
        return kind(head.temperature, head.sharpening)

    def calibrate(self, calibration: Calibration) -> None:
        """Use another calibration, and note it in the configuration."""
        self._note(**asdict(instance("calibration", calibration, Calibration)))

    def name_classes(self, class_names: Sequence[str]) -> None:
        """Name the classes, in the order of the logits, and note it in the configuration.

        Raises:
            ValueError, TypeError: If they are not one distinct name for each class.
        """
        self._note(class_names=checked_names(class_names, self.config.head.num_classes))

    def reset_classifier(
        self,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        *,
        multi_label: bool | None = None,
    ) -> None:
        """Give the network a head for other classes, with random weights and not calibrated.

        Everything else stays as it is.

        Args:
            num_classes: Number of classes; 0: no head, for embeddings alone.
            class_names: Their names, in order; ``None``: their numbers.
            multi_label: Whether an image may have several of them; ``None``: as before.

        Raises:
            ValueError, TypeError: If ``num_classes`` is not a whole number from 0, or there is not
                one distinct name for each class, or ``multi_label`` is no flag.

        Example:
            >>> import torch, fovigraph as fg
            >>> net = fg.FoviNet(fg.load_config("fovi_tiny"))
            >>> net.reset_classifier(2, ["cat", "dog"])
            >>> net(torch.rand(1, 3, 64, 64)).logits.shape
            torch.Size([1, 2])
        """
        num_classes = whole_number("num_classes", num_classes)
        names = None if class_names is None else checked_names(class_names, num_classes)
        several = self.config.head.multi_label if multi_label is None else multi_label
        classes = {"num_classes": num_classes, "multi_label": flag("multi_label", several)}
        like = next(self.parameters())
        head = make_head(
            unwrapped(self.projector).out_features,  # type: ignore[arg-type]  # any module's
            num_classes,
            self.config.head.dropout,
        )
        self.head = head.to(like.device, like.dtype).train(self.training)
        self._note(**classes, class_names=names, **asdict(Calibration()))
        self.aggregation = self._make_aggregation().to(like.device, like.dtype).train(self.training)

    def _note(self, **head: Any) -> None:
        """Change the section ``head`` of the configuration."""
        self.config = replace(self.config, head=replace(self.config.head, **head))

    @property
    def pyramid(self) -> GraphPyramid:
        """The levels and graphs of the backbone."""
        pyramid = unwrapped(self.backbone).pyramid
        assert isinstance(pyramid, GraphPyramid)
        return pyramid

    def forward(
        self,
        images: Num[Tensor, "*batch C H W"],
        fixations: Tensor | Sequence[Any] | int | None = None,
        generator: torch.Generator | None = None,
        *,
        area: float | Sequence[float] | None = None,
    ) -> FoviOutput:
        """Look at images and classify them.

        Args:
            images: ``[B, 3, H, W]``, float in [0, 1] or uint8.
            fixations: Where to look, (row, column) in [0, 1]: ``[B, F, 2]``, or ``[F, 2]`` for all
                images; how often, a number; ``None`` leaves both to the policy.
            generator: Source of the policy's random numbers; torch's global state if ``None``.
            area: How much to see at each, as a fraction of the image's area, or (lowest, highest),
                between which it is drawn; ``None`` leaves it to the policy.

        Raises:
            ValueError, TypeError: If an argument is not of the kind said above, or ``area`` is
                given to a network whose retina has a ``fixation_size`` of its own.
        """
        images = self._checked(images)
        views = self.views(images, fixations, generator, area=area)
        return self.see(images, views, divide_first=True)

    def views(
        self,
        images: Tensor,
        fixations: Tensor | Sequence[Any] | int | None = None,
        generator: torch.Generator | None = None,
        *,
        area: float | Sequence[float] | None = None,
    ) -> Fixations:
        """Choose where to look at images (only their shape matters), and how much is seen there.

        All arguments as in :meth:`forward`.
        """
        views = self.fixation_policy(images, generator, fixations, area)
        if self.retina.fixation_size is None:
            return views
        if area is not None:
            raise ValueError(
                "area must be None for a retina of fixation_size="
                f"{self.retina.fixation_size} pixels, got {shown(area)}"
            )
        size = views.size.new_tensor(self.retina.fixation_size).expand_as(views.size)
        return Fixations(views.location, size)

    def see(
        self,
        images: Tensor,
        views: Fixations,
        vary: Callable[[Tensor], Tensor] | None = None,
        *,
        divide_first: bool = False,
    ) -> FoviOutput:
        """Classify what is seen at given views.

        Args:
            images: ``[B, 3, H, W]``, or ``[B, F, 3, H, W]``, one for each fixation, as for
                :class:`~fovigraph.Retina`.
            views: Locations and sizes, ``[B, F, 2]`` each, as :meth:`views` gives them.
            vary, divide_first: As in :meth:`Retina.forward`.
        """
        return self._see(images, views, vary, divide_first, lambda x: self.backbone(x))

    def see_intermediates(
        self,
        images: Tensor,
        views: Fixations,
        vary: Callable[[Tensor], Tensor] | None = None,
        *,
        divide_first: bool = False,
    ) -> tuple[FoviOutput, dict[str, Intermediate]]:
        """Classify what is seen at given views, and return what every block gave, by its name.

        Args:
            images, views, vary, divide_first: As for :meth:`see`.

        Returns:
            The output, and the blocks' features ``[B · F, N, C]`` with their levels.
        """
        seen: dict[str, Intermediate] = {}

        def through(samples: Tensor) -> Tensor:
            out, blocks = self.backbone.forward_intermediates(samples)
            seen.update(blocks)
            return out  # type: ignore[no-any-return]

        return self._see(images, views, vary, divide_first, through), seen

    def _see(
        self,
        images: Tensor,
        views: Fixations,
        vary: Callable[[Tensor], Tensor] | None,
        divide_first: bool,
        backbone: Callable[[Tensor], Tensor],
    ) -> FoviOutput:
        return self._seen(self._samples(images, views, vary, divide_first), views, backbone)

    def see_samples(
        self, samples: Float[Tensor, "B F N C"], views: Fixations | None = None
    ) -> FoviOutput:
        """Classify what the retina has sampled, as ``net.retina`` gives it.

        Args:
            samples: ``[B, F, N, C]``.
            views: Where and how large the views were; ``None``: the output's are not a number.

        Raises:
            ValueError, TypeError: If ``samples`` are not such a tensor for this network's retina,
                or ``views`` not of as many images and fixations.

        Example:
            >>> import torch, fovigraph as fg
            >>> net = fg.create_model("fovi_tiny").eval()
            >>> images = torch.rand(2, 3, 96, 128)
            >>> samples = net.retina(images, [[0.5, 0.5]])
            >>> net.see_samples(samples).logits.shape
            torch.Size([2, 10])
        """
        channels = self.config.retina.channels
        float_tensor("samples", samples, ("B", "F", len(self.pyramid.levels[0]), channels))
        if views is None:
            unknown = samples.new_full((*samples.shape[:2], 2), torch.nan)
            views = Fixations(unknown, unknown)
        elif instance("views", views, Fixations).location.shape != (*samples.shape[:2], 2):
            raise ValueError(
                f"views must be of {samples.shape[0]} images at {samples.shape[1]} fixations, "
                f"got locations of shape {tuple(views.location.shape)}"
            )
        samples = samples.to(next(self.parameters()).dtype)
        return self._seen(samples, views, lambda x: self.backbone(x))

    def _seen(
        self, samples: Tensor, views: Fixations, backbone: Callable[[Tensor], Tensor]
    ) -> FoviOutput:
        """Classify samples, in the weights' precision."""
        features = backbone(samples.flatten(0, 1)).flatten(1).unflatten(0, samples.shape[:2])
        embeddings = self.projector(features)
        fixation_logits, logits = self.answers(self.head(embeddings))
        kind = MultiLabelOutput if self.config.head.multi_label else FoviOutput
        return kind(logits, embeddings, views.location, fixation_logits, features, views.size)

    def answers(
        self, probe_logits: Float[Tensor, "B F classes"]
    ) -> tuple[Float[Tensor, "B F classes"], Float[Tensor, "B classes"]]:
        """Return the logits of each fixation alone, and those of the image by all of them.

        Args:
            probe_logits: What ``head`` gives for every fixation's embedding.
        """
        alone, calibration = self.aggregation.alone(probe_logits), self.calibration
        if self.training:
            return alone, self.aggregation(probe_logits)
        alone = calibration.of_one(alone)
        if not self.config.head.joint:
            return alone, calibration.of_all(alone)
        logits = calibration.of_one(self.aggregation(probe_logits))
        return alone, calibration.sharpened(logits, probe_logits.shape[1])

    def _samples(
        self,
        images: Num[Tensor, "B *F C H W"],
        views: Fixations,
        vary: Callable[[Tensor], Tensor] | None = None,
        divide_first: bool = False,
    ) -> Float[Tensor, "B F N C"]:
        """Return what the retina samples at views, ``[B, F, N, C]``, in the weights' precision."""
        instance("views", views, Fixations)
        samples = self.retina(images, *views, vary=vary, divide_first=divide_first)
        return samples.to(next(self.parameters()).dtype)

    def features(
        self,
        images: Tensor,
        fixations: Tensor | Sequence[Any] | int | None = None,
        layers: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Intermediate]:
        """Return what blocks of the backbone give, in one pass that ends after the last of them.

        Args:
            images, fixations, generator: As for :meth:`forward`.
            layers: Names of blocks (``net.backbone.block_names``); ``None``: all.

        Returns:
            Features ``[B, F, N, C]`` and the index of their level in :attr:`pyramid`, by name.

        Raises:
            ValueError, TypeError: If there is no such block, or images or fixations are not of the
                kind said above.

        Example:
            >>> import torch, fovigraph as fg
            >>> net = fg.FoviNet(fg.load_config("fovi_tiny")).eval()
            >>> seen = net.features(torch.rand(2, 3, 96, 128), layers=["layers.1"])
            >>> seen["layers.1"].features.shape
            torch.Size([2, 4, 16, 32])
        """
        images = self._checked(images)
        samples = self._samples(images, self.views(images, fixations, generator), divide_first=True)
        seen = self.backbone.intermediates(samples.flatten(0, 1), layers)
        return {
            name: Intermediate(each.features.unflatten(0, samples.shape[:2]), each.level)
            for name, each in seen.items()
        }

    def _checked(self, images: Tensor) -> Tensor:
        """Check images, and return them as ``[B, C, H, W]``."""
        return check_images(images, self.config.retina.channels)

    def predict(
        self,
        images: Any,
        *,
        fixations: Tensor | Sequence[Any] | None = None,
        top: int = 5,
        batch_size: int = 32,
    ) -> list[Prediction]:
        """Name what images show, each of any size.

        The network looks as in evaluation, whatever its mode, and stays in its mode.

        Args:
            images: An image or a list of them, of different sizes: files, Pillow's images, arrays
                ``[H, W, 3]``, tensors ``[3, H, W]``; or a batch ``[B, 3, H, W]``.
            fixations: As in :meth:`forward`.
            top: Number of classes to name.
            batch_size: Images of one size that are computed at a time.

        Returns:
            A prediction of every image, in their order.

        Raises:
            TypeError, ValueError, FileNotFoundError: If something is no image, or cannot be read.

        Example:
            >>> import torch, fovigraph as fg
            >>> net = fg.FoviNet.from_pretrained("fovi_cifar10")
            >>> [answer] = net.predict(torch.rand(3, 64, 96))
            >>> answer.name in net.class_names
            True
        """
        answers = predictions(self, images, fixations=fixations, top=top, batch_size=batch_size)
        return list(answers)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``config.yaml`` and ``model.safetensors`` to a folder, made if need be.

        Wrappers that leave a network as it is (``torch.compile``, ``DataParallel`` and
        ``DistributedDataParallel``, around it or around parts of it) are left out; tensors that
        several modules share are shared again after loading.

        Args:
            folder: The folder; ``~`` is the home folder.

        Raises:
            ValueError: If :meth:`from_pretrained` could not load what would be written: the weights
                are not those of ``config`` (a head for other classes), or NaN or infinite.
            TypeError: If ``folder`` is not a path.
            OSError: If the folder cannot be written. In either case nothing half-written is left.
        """
        save_pretrained(self, path_of("folder", folder))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        card: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str = "Upload a fovigraph network",
    ) -> str:
        """Upload configuration, weights and a model card to the Hugging Face Hub.

        Needs the extra ``hub``. :meth:`from_pretrained` loads it by ``repo_id`` again.

        Args:
            repo_id: ``"owner/name"``; made if need be.
            card: The model card, in Markdown; ``None``: one that describes the network.
            private: Whether a new repository is; ``None``: as the owner's default is.
            revision: The branch; ``None``: the main one.
            token: Access token; ``None``: the one that was logged in with.
            commit_message: What the Hub's history says.

        Returns:
            The address of the commit.

        Raises:
            ValueError: If ``repo_id`` is none, or the network could not be loaded again, as
                :meth:`save_pretrained` says; nothing was uploaded then.
            ImportError: If huggingface_hub is missing.
        """
        return push_to_hub(
            self,
            repo_id,
            card=card,
            private=private,
            revision=revision,
            token=token,
            commit_message=commit_message,
        )

    def _repr_html_(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.parameters())
        names = self.config.head.class_names
        classes = str(self.config.head.num_classes)
        if names is not None:
            more = ", …" if len(names) > _SHOWN_NAMES else ""
            classes += f": {', '.join(names[:_SHOWN_NAMES])}{more}"
        facts = {
            "backbone": f"{self.config.backbone.name}, {parameters:,} parameters with the head",
            "fixations": repr(self.fixation_policy),
            "classes": classes,
        }
        return facts_html(type(self).__name__, facts) + pyramid_html(self.pyramid)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | os.PathLike[str],
        revision: str | None = None,
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        in_channels: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> FoviNet:
        """Load a trained network: one in the box, from a folder, or from the Hub.

        Args:
            folder_or_hub_id: A folder, ``~`` being the home folder; or ``"owner/name"`` on the
                Hugging Face Hub, which needs the extra ``hub``.
            revision: Branch, tag or commit on the Hub.
            num_classes: For other classes than it was trained on: their number. The network then
                has a new head with random weights (:meth:`reset_classifier`); 0: none.
            class_names: Likewise, their names; alone, they also say how many there are.
            in_channels: For images of another number of channels: the first layer's weights are
                summed over the channels for 1, and repeated, and scaled to the same sum, for more.
            overrides: Other values of the configuration, by dotted key, that leave the weights'
                shapes as they are.
            cache_dir: The Hub's cache; ``None``: where huggingface_hub has it.
            token: Access token of the Hub; ``None`` or True: the one that was logged in with.
            local_files_only: Whether to take what is in the cache, and not ask the Hub.

        Returns:
            The network, in evaluation mode and in single precision: weights that were saved in half
            precision are converted exactly, those in double precision are rounded.

        Raises:
            FileNotFoundError: If there is no such folder, or it lacks one of the two files.
            ConfigError: If an override is none of a network.
            ValueError: If the weights cannot be read, are of another architecture or not of
                floating point, or NaN or infinite; if there is not one distinct name for each
                class; or if the first layer cannot take other channels.
            TypeError: If an argument is of another type.
        """
        classes = classes_asked_for(num_classes, class_names)
        if in_channels is not None:
            positive_int("in_channels", in_channels)
        hub = HubOptions(cache_dir, token, local_files_only)
        folder = find_pretrained(folder_or_hub_id, revision, hub)
        config = _compose.load(folder / "config.yaml", (), FoviConfig)
        trained_channels = config.retina.channels
        config = _compose.changed(config, {} if overrides is None else overrides)
        if in_channels is not None:
            config = with_channels(config, in_channels)
        net = cls(config)
        adapt = None
        if config.retina.channels != trained_channels:
            adapt = input_adapter(net)
        load_weights(net, folder / "model.safetensors", adapt)
        if classes:
            net.reset_classifier(**classes)
        return net.eval()

    @classmethod
    def from_upstream(cls, path_or_hub_id: str | os.PathLike[str], **options: Any) -> FoviNet:
        """Deprecated: :func:`fovigraph.from_upstream`, with ``cls`` for a subclass."""
        function = moved("FoviNet.from_upstream", "fovigraph", "from_upstream")
        return function(path_or_hub_id, cls=cls, **options)


def check_fovinet(name: str, value: Any) -> None:
    """Check that ``value`` is a :class:`FoviNet`, or one that was compiled or optimised.

    Raises:
        TypeError: If it is not, with ``name``.
    """
    if not (
        isinstance(value, nn.Module) and isinstance(getattr(value, "config", None), FoviConfig)
    ):
        raise TypeError(f"{name} must be a FoviNet, got {shown(value)}")


def class_names_of(config: FoviConfig) -> list[str]:
    """Return the names of a configuration's classes, their numbers if they have none."""
    return list(config.head.class_names or map(str, range(config.head.num_classes)))
