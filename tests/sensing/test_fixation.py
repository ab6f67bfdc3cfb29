"""Fixation policies."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fovigraph.sensing import (
    FIXATION_POLICIES,
    FixationPolicy,
    Fixations,
    fixation_policy,
    register_policy,
)

PLACES = [[0.25, 0.75], [0.5, 0.1], [1.0, 0.0]]


def policy(name, count=3, **options):
    if name == "explicit":
        options["fixations"] = PLACES
    return fixation_policy(name, count, **options)


def images(batch=64, height=48, width=64):
    return torch.zeros(1).expand(batch, 3, height, width)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", FIXATION_POLICIES)
class TestEveryPolicy:
    def test_gives_locations_and_sizes_of_every_image(self, name):
        fixations = policy(name)(images(4))
        assert isinstance(fixations, Fixations)
        for tensor in fixations:
            assert tensor.shape == (4, 3, 2)
            assert tensor.dtype == torch.float32
        assert fixations.location.min() >= 0
        assert fixations.location.max() <= 1
        assert fixations.size.min() >= 1

    def test_whole_square_image_by_default(self, name):
        for mode in (True, False):
            size = policy(name).train(mode)(images(height=32, width=32)).size
            assert (size == 32).all()

    def test_same_seed_same_fixations(self, name):
        eye = policy(name, area=(0.1, 0.9), aspect=(0.5, 2.0))
        first, again, other = (eye(images(), seeded(seed)) for seed in (0, 0, 1))
        assert torch.equal(first.location, again.location)
        assert torch.equal(first.size, again.size)
        assert not torch.equal(first.size, other.size)

    def test_global_random_state_is_used_without_a_generator(self, name):
        eye = policy(name, area=(0.1, 0.9))
        torch.manual_seed(3)
        first = eye(images())
        torch.manual_seed(3)
        assert torch.equal(first.size, eye(images()).size)
        assert torch.equal(first.size, eye(images(), seeded(3)).size)

    def test_a_generator_leaves_the_global_random_state_alone(self, name):
        before = torch.get_rng_state()
        policy(name)(images(), seeded())
        assert torch.equal(before, torch.get_rng_state())

    def test_result_is_on_the_images_device(self, name):
        fixations = policy(name)(images().to("meta"))
        assert fixations.location.device.type == fixations.size.device.type == "meta"

    def test_training_draws_areas_in_range(self, name):
        eye = policy(name, area=(0.2, 0.6))
        side = eye(images(500, 100, 100), seeded()).size
        area = side.prod(-1) / 100**2
        assert torch.equal(side[..., 0], side[..., 1])
        assert area.min() > 0.19
        assert area.max() < 0.61
        assert area.mean() == pytest.approx(0.4, abs=0.01)

    def test_training_draws_aspects_in_range(self, name):
        eye = policy(name, area=(0.1, 0.1), aspect=(0.5, 2.0))
        size = eye(images(500, 1000, 1000), seeded()).size
        aspect = (size[..., 1] / size[..., 0]).log2()
        assert aspect.min() > -1.01
        assert aspect.max() < 1.01
        assert aspect.mean().abs() < 0.05  # even in the logarithm
        assert size.prod(-1).sub(1e5).abs().max() < 1e3

    def test_evaluation_sees_a_square_of_eval_area(self, name):
        eye = policy(name, area=(0.2, 0.6), aspect=(0.5, 2.0), eval_area=0.25).eval()
        assert (eye(images(5, 100, 100)).size == 50).all()

    def test_looks_in_the_same_places_in_evaluation(self, name):
        eye = policy(name, area=(0.2, 0.4), eval_area=0.25).eval()
        first = eye(images()).location
        assert torch.equal(first, eye(images()).location)
        assert (first[1:] == first[:1]).all()

    def test_random_in_eval_if_asked_for(self, name):
        eye = policy(name, in_eval="random", eval_area=0.25).eval()
        torch.manual_seed(0)
        differ = not torch.equal(eye(images()).location, eye(images()).location)
        assert differ == (name in ("near_center", "random_crop"))

    def test_a_generator_asks_for_random_fixations_in_evaluation(self, name):
        eye = policy(name, eval_area=0.25).eval()
        drawn = eye(images(), seeded()).location
        assert torch.equal(drawn, eye(images(), seeded()).location)
        differ = not torch.equal(drawn, eye(images()).location)
        assert differ == (name in ("near_center", "random_crop"))

    def test_center_in_eval(self, name):
        eye = policy(name, in_eval="center", area=(0.2, 0.4), eval_area=0.25)
        assert (eye(images()).location != 0.5).any() == (name != "center")
        assert (eye.eval()(images()).location == 0.5).all() == (name != "explicit")

    def test_eval_count(self, name):
        eye = policy(name, eval_count=3)
        assert (eye.count, eye.eval().count) == (3, 3)
        if name != "explicit":
            eye = policy(name, eval_count=7)
            assert eye(images()).location.shape[1] == 3
            assert eye.eval()(images()).location.shape[1] == 7

    @pytest.mark.parametrize(("old", "new"), [(True, "random"), (False, "center")])
    def test_random_in_eval_is_deprecated(self, name, old, new):
        with pytest.warns(DeprecationWarning, match=f"random_in_eval={old} is now in_eval='{new}'"):
            assert policy(name, random_in_eval=old).in_eval == new

    def test_center_first(self, name):
        for mode in (True, False):
            eye = policy(name, center_first=True, area=(0.1, 0.2), eval_area=0.1).train(mode)
            location = eye(images()).location
            assert (location[:, 0] == 0.5).all()
            assert (location[:, 1:] != 0.5).any() == (name != "center")

    def test_given_fixations_have_the_policys_sizes(self, name):
        eye = policy(name, eval_area=0.25).eval()
        given = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
        location, size = eye(images(5, 40, 40), fixations=given)
        assert torch.equal(location, given.expand(5, 2, 2))
        assert size.shape == (5, 2, 2)
        assert (size == 20).all()

    def test_given_fixations_must_match_the_batch(self, name):
        with pytest.raises(ValueError, match=r"fixations must have shape .* with B=5, .* \(4, 2"):
            policy(name)(images(5), fixations=torch.zeros(4, 2, 2))

    def test_shape_of_images(self, name):
        for shape in ((3, 8, 8), (1, 3, 0, 8)):
            with pytest.raises(ValueError, match=r"images must have shape \[B, C, H, W\], got"):
                policy(name)(torch.zeros(shape))

    def test_repr_names_its_options(self, name):
        assert "count=3, area=(0.1, 0.5), aspect=(1.0, 1.0)" in repr(policy(name, area=(0.1, 0.5)))

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"count": 0}, ValueError, "count must be at least 1, got 0"),
            ({"count": 1.5}, TypeError, "count must be a whole number"),
            ({"area": (0.0, 1.0)}, ValueError, "area must be finite and above 0, got 0"),
            ({"area": (0.5, 1.1)}, ValueError, "area must be above 0 and at most 1"),
            ({"area": (0.5, 0.2)}, ValueError, r"lowest first, got \(0.5, 0.2\)"),
            ({"area": (0.1, float("nan"))}, ValueError, "area must be finite"),
            ({"area": 0.5}, TypeError, r"area must be a pair \(lowest, highest\), got 0.5"),
            ({"area": (0.1, 0.2, 0.3)}, TypeError, "area must be a pair"),
            ({"area": "12"}, TypeError, "area must be a pair"),
            ({"area": None}, TypeError, "area must be a pair"),
            ({"area": torch.tensor(0.5)}, TypeError, "area must be a pair"),
            ({"area": np.array(0.5)}, TypeError, "area must be a pair"),
            ({"area": (0.1, "1")}, TypeError, "area must be a finite number above 0, got '1'"),
            ({"aspect": (-1.0, 1.0)}, ValueError, "aspect must be finite and above 0, got -1"),
            ({"aspect": (2.0, 1.0)}, ValueError, "aspect must be above 0, lowest first"),
            ({"eval_area": 0.0}, ValueError, "eval_area must be finite and above 0, got 0"),
            ({"eval_area": 2.0}, ValueError, "eval_area must be above 0 and at most 1"),
            ({"spread": -0.1}, ValueError, "spread must be from 0 to 0.5, got -0.1"),
            ({"spread": 0.6}, ValueError, "spread must be from 0 to 0.5, got 0.6"),
            ({"spread": 10**400}, ValueError, "spread must be from 0 to 0.5, got 1000"),
            ({"spread": "far"}, TypeError, "spread must be a number from 0 to 0.5, got 'far'"),
            ({"center_first": "yes"}, TypeError, "center_first must be True or False, got 'yes'"),
            ({"random_in_eval": 1}, TypeError, "random_in_eval must be True or False, got 1"),
            ({"in_eval": "never"}, ValueError, "in_eval must be .*, got 'never'"),
            ({"eval_count": 0}, ValueError, "eval_count must be .*, got 0"),
        ],
    )
    def test_bad_options(self, name, options, error, message):
        with pytest.raises(error, match=message):
            policy(name, **options)


class TestCenter:
    def test_looks_at_the_centre(self):
        assert (policy("center", area=(0.1, 0.9))(images()).location == 0.5).all()

    def test_view_of_a_whole_image_that_is_not_square_is_its_largest_square(self):
        for height, width in ((48, 64), (64, 48)):
            assert (policy("center")(images(2, height, width)).size == 48).all()


class TestRandomCrop:
    def test_crops_lie_within_the_image(self):
        eye = policy("random_crop", area=(0.05, 1.0), aspect=(0.5, 2.0))
        location, size = eye(images(500), seeded())
        extent = torch.tensor([48.0, 64.0])
        first, last = location * extent - size / 2, location * extent + size / 2
        assert first.min() > -1e-4
        assert (last <= extent + 1e-4).all()

    def test_crops_are_on_whole_pixels(self):
        eye = policy("random_crop", area=(0.05, 1.0), aspect=(0.5, 2.0))
        location, size = eye(images(100), seeded())
        first = location * torch.tensor([48.0, 64.0]) - size / 2
        assert torch.equal(size, size.round())
        assert (first - first.round()).abs().max() < 1e-4

    def test_every_place_is_as_likely(self):
        eye = policy("random_crop", area=(0.25, 0.25))
        location, size = eye(images(2000, 8, 8), seeded())
        corner = (location * 8 - size / 2).round().long()
        counts = torch.bincount((corner[..., 0] * 5 + corner[..., 1]).flatten(), minlength=25)
        assert (size == 4).all()
        assert len(counts) == 25
        assert counts.min() > 0.75 * 6000 / 25
        assert counts.max() < 1.25 * 6000 / 25

    def test_draws_that_do_not_fit_are_drawn_anew_up_to_ten_times(self):
        # Of squares of 0.3 to 1 of an image twice as wide as high, those of more than half are too
        # high, 5 in 7: all of ten with a probability of 3 %, and then the largest is taken.
        eye = policy("random_crop", area=(0.3, 1.0))
        size = eye(images(1000, 1000, 2000), seeded()).size[..., 0]
        assert size.max() == 1000
        assert (size == 1000).float().mean() == pytest.approx((5 / 7) ** 10, abs=0.02)
        area = (size[size < 1000] / 1000) ** 2 / 2
        assert area.min() > 0.299
        assert area.mean() == pytest.approx(0.4, abs=0.01)

    def test_without_a_fit_it_is_the_largest_centred_crop(self):
        for aspect, size in (
            ((1.0, 1.0), (40, 40)),
            ((2.0, 2.0), (40, 80)),
            ((0.5, 0.5), (40, 20)),
        ):
            eye = policy("random_crop", area=(1.0, 1.0), aspect=aspect)
            location, sizes = eye(images(3, 40, 100))
            assert torch.equal(sizes, torch.tensor(size).float().expand(3, 3, 2))
            assert (location == 0.5).all()
        location, sizes = policy("random_crop", aspect=(0.25, 4.0))(images(3, 1, 1))
        assert (sizes == 1).all()
        assert (location == 0.5).all()

    def test_whole_image_in_evaluation(self):
        location, size = policy("random_crop", in_eval="center").eval()(images(2, 48, 64))
        assert (location == 0.5).all()
        assert (size == 48).all()

    def test_fixed_places_in_evaluation_differ_and_begin_at_the_centre(self):
        eye = policy("random_crop", eval_area=0.25).eval()
        location, size = eye(images(1, 100, 100))
        assert (location[0, 0] == 0.5).all()
        assert torch.cdist(location[0], location[0])[~torch.eye(3, dtype=torch.bool)].min() > 0.1
        assert (location * 100 >= size / 2).all() and (location * 100 <= 100 - size / 2).all()

    def test_fixed_places_spread_over_an_image_whose_largest_square_is_seen(self):
        location, size = policy("random_crop").eval()(images(1, 100, 300))
        assert (size == 100).all()
        assert (location[..., 0] == 0.5).all()
        assert location[0, :, 1].unique().numel() == 3


class TestNearCenter:
    def test_fixed_places_in_evaluation_fill_the_range(self):
        eye = policy("near_center", spread=0.2, eval_count=64).eval()
        location = eye(images(1)).location[0]
        assert (location[0] == 0.5).all()
        assert location.min() >= 0.3 and location.max() <= 0.7
        cells = ((location - 0.3) / 0.4 * 4).long().clamp(0, 3)
        assert torch.bincount(cells[:, 0] * 4 + cells[:, 1], minlength=16).min() >= 2

    def test_is_uniform_within_the_spread(self):
        location = policy("near_center", spread=0.2)(images(2000), seeded()).location
        assert location.min() > 0.3 - 1e-6
        assert location.max() < 0.7 + 1e-6
        assert location.mean() == pytest.approx(0.5, abs=0.01)
        assert location.std() == pytest.approx(0.4 / 12**0.5, abs=0.01)

    def test_view_may_reach_beyond_the_image(self):
        assert (policy("near_center")(images(2, 50, 200)).size == 100).all()

    def test_no_spread_is_the_centre(self):
        assert (policy("near_center", spread=0.0)(images()).location == 0.5).all()


class TestExplicit:
    def test_looks_where_it_is_told(self):
        location = policy("explicit")(images(2)).location
        assert torch.equal(location, torch.tensor(PLACES).expand(2, 3, 2))

    def test_takes_an_omegaconf_list(self):
        eye = fixation_policy("explicit", 3, fixations=OmegaConf.create(PLACES))
        assert eye.fixations == PLACES

    def test_center_first_does_not_change_it(self):
        eye = policy("explicit", center_first=True)
        eye(images())
        assert eye.fixations == PLACES

    def test_is_looked_at_as_often_in_evaluation(self):
        with pytest.raises(ValueError, match=r"eval_count must be count=3 .* got 4"):
            policy("explicit", eval_count=4)

    @pytest.mark.parametrize(
        ("fixations", "error", "message"),
        [
            (PLACES[:2], ValueError, r"fixations must be count=3 pairs .* got shape \(2, 2\)"),
            ([0.5, 0.5], ValueError, "fixations must have shape"),
            ([[0.5, 0.5, 0.5]] * 3, ValueError, "fixations must have shape"),
            ([[float("nan"), 0.5]] * 3, ValueError, "fixations must be finite, got nan"),
            ([[0.5, 128]] * 3, ValueError, "fixations must be fractions .* got 128"),
            (["left"] * 3, TypeError, "fixations must be numbers"),
            (None, TypeError, "fixations must be numbers, got None"),
        ],
    )
    def test_bad_fixations(self, fixations, error, message):
        with pytest.raises(error, match=message):
            fixation_policy("explicit", 3, fixations=fixations)


class TestPerCall:
    @pytest.mark.parametrize("name", ["center", "near_center", "random_crop"])
    @pytest.mark.parametrize("training", [True, False])
    def test_number_of_fixations(self, name, training):
        policy = fixation_policy(name, 2, eval_count=3).train(training)
        views = policy(torch.zeros(4, 3, 20, 30), fixations=5)
        assert views.location.shape == views.size.shape == (4, 5, 2)

    def test_of_explicit_ones_there_may_be_fewer(self):
        policy = fixation_policy("explicit", 2, fixations=[[0.1, 0.2], [0.3, 0.4]])
        (one,) = policy(torch.zeros(1, 3, 9, 9), fixations=1).location.tolist()
        assert one == [pytest.approx([0.1, 0.2])]
        with pytest.raises(ValueError, match=r"fixations must be at most 2, .* got 3"):
            policy(torch.zeros(1, 3, 9, 9), fixations=3)

    @pytest.mark.parametrize("training", [True, False])
    def test_area_is_a_number(self, training):
        policy = fixation_policy("random_crop", 2, area=(0.1, 0.9), eval_area=0.5).train(training)
        size = policy(torch.zeros(3, 3, 100, 100), area=0.25).size
        assert (size == 50).all()

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("name", ["random_crop", "near_center"])
    def test_area_is_drawn_from_a_range(self, name, training):
        policy = fixation_policy(name, 50).train(training)
        size = policy(torch.zeros(4, 3, 400, 400), area=(0.2, 0.4)).size
        area = size.prod(-1) / 400**2
        assert 0.19 < area.min() < 0.23
        assert 0.37 < area.max() < 0.41

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"fixations": 0}, "fixations must be at least 1, got 0"),
            ({"fixations": True}, "fixations must be"),
            ({"area": 0.0}, "area must be finite and above 0, got 0"),
            ({"area": 1.5}, "area must be above 0 and at most 1"),
            ({"area": (0.5, 0.2)}, "area must be above 0 and at most 1, lowest first"),
            ({"area": "all"}, "area must be a pair"),
        ],
    )
    def test_bad_ones(self, asked, message):
        with pytest.raises((TypeError, ValueError), match=message):
            fixation_policy("near_center", 2)(torch.zeros(1, 3, 9, 9), **asked)


class TestRegistry:
    def test_a_users_policy_is_made_by_name(self):
        @register_policy("corner")
        class Corner(FixationPolicy):
            def __init__(self, count, *, inset=0.0, **options):
                super().__init__(count, **options)
                self.inset = inset

            def locate(self, size, fitted, image, at):
                return torch.full_like(size, self.inset)

        policy = fixation_policy("corner", 2, inset=0.25, eval_area=0.5)
        assert (policy(torch.zeros(1, 3, 9, 9)).location == 0.25).all()
        with pytest.raises(TypeError, match="'corner' has no option 'insett'"):
            fixation_policy("corner", 2, insett=0.25)

    def test_names_are_new_strings(self):
        class Another(FixationPolicy):
            pass

        with pytest.raises(ValueError, match="name must be new, got 'center'"):
            register_policy("center")(Another)
        with pytest.raises(TypeError, match="name must be a string"):
            register_policy(3)

    def test_only_policies_are_registered(self):
        with pytest.raises(TypeError, match="policy must be a class of FixationPolicy"):
            register_policy("module")(torch.nn.Module)


class TestByName:
    def test_makes_the_named_policy(self):
        for name, kind in FIXATION_POLICIES.items():
            assert type(policy(name)) is kind
            assert issubclass(kind, FixationPolicy)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="'near_center', 'random_crop', got 'near_centre'"):
            fixation_policy("near_centre", 2)
        for name in (None, 3, ["center"]):
            with pytest.raises(TypeError, match="name of the fixation policy must be one of"):
                fixation_policy(name, 2)

    def test_unknown_option(self):
        with pytest.raises(TypeError, match=r"no option 'spred', only area, .*mean 'spread'"):
            fixation_policy("near_center", 2, spred=0.1)
        with pytest.raises(TypeError, match="'center' has no option 'fixations'"):
            fixation_policy("center", 1, fixations=[[0.5, 0.5]])

    def test_missing_option(self):
        with pytest.raises(TypeError, match="'explicit' needs the option 'fixations'"):
            fixation_policy("explicit", 1)

    @pytest.mark.parametrize("generator", [3, "seed", torch.zeros(2), [torch.Generator()]])
    def test_generator_must_be_one(self, generator):
        with pytest.raises(TypeError, match=r"generator must be a torch\.Generator or None, got"):
            policy("center")(images(), generator)

    @pytest.mark.parametrize("wrong", [None, 3, [[0.5]], "cat.jpg"])
    def test_images_must_be_a_tensor(self, wrong):
        with pytest.raises(TypeError, match=r"images must be a torch\.Tensor \[B, C, H, W\], got"):
            policy("center")(wrong)

    def test_arrays_of_fixations_may_have_any_strides_and_byte_order(self):
        places = np.array([[0.25, 0.75], [0.5, 0.125]])
        expected = policy("center")(images(2), fixations=torch.from_numpy(places))
        for view in (
            np.asfortranarray(places),
            places[::-1, ::-1][::-1, ::-1],
            places.astype(">f4"),
        ):
            assert policy("center")(images(2), fixations=view).location.equal(expected.location)
        with pytest.raises(TypeError, match="fixations must be numbers, got"):
            policy("center")(images(2), fixations=np.array([["a", "b"]]))

    def test_fixations_may_be_transformed_by_functions(self):
        location = torch.func.vmap(
            lambda places: policy("center").eval()(images(1), fixations=places).location
        )(torch.tensor([PLACES, PLACES]))
        assert location.equal(torch.tensor(PLACES).expand(2, 1, 3, 2))

    def test_generator_must_be_on_the_cpu(self):
        class Elsewhere:
            device = torch.device("cuda")

        with pytest.raises(ValueError, match="generator must be on the CPU, got one on cuda"):
            policy("near_center")(images(), Elsewhere())


def test_fixations_without_end_are_refused_before_memory_is_lost():
    policy = fixation_policy("near_center", 2)
    with pytest.raises(ValueError, match="fixations must be at most 4096"):
        policy(torch.zeros(1, 3, 8, 8), fixations=2**31 - 1)
    with pytest.raises(ValueError, match="count must be at most 4096"):
        fixation_policy("near_center", 2**31 - 1)
