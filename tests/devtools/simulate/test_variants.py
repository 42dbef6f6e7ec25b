import pytest

from fd_router.devtools.simulate.variants import variants_of
from fd_router.errors import ConfigError


def test_policies_with_options_of_their_own():
    plain, own = variants_of(
        "cache_aware, cache_aware:hit-ratio-weight=2:load_balance_weight=0.5", ["hit-ratio-weight=3"]
    )
    assert (plain.name, plain.policy, plain.options.hit_ratio_weight) == ("cache_aware", "cache_aware", 3)
    assert own.name == "cache_aware:hit-ratio-weight=2:load_balance_weight=0.5"
    assert (own.policy, own.options.hit_ratio_weight, own.options.load_balance_weight) == ("cache_aware", 2, 0.5)


def test_a_class_of_a_module_is_a_name():
    assert variants_of("package.module:Policy:hit-ratio-weight=2", [])[0].policy == "package.module:Policy"


def test_the_file_is_the_weakest(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("scheduler:\n  hit-ratio-weight: 7\n  load-balance-weight: 5\n")
    (variant,) = variants_of("cache_aware", ["scheduler.hit-ratio-weight=3"], str(path))
    assert (variant.options.hit_ratio_weight, variant.options.load_balance_weight) == (3, 5)


@pytest.mark.parametrize(
    ("policies", "settings", "complaint"),
    [
        ("random:hit-ratio-wieght=1", [], "did you mean 'hit-ratio-weight'"),
        ("random", ["nonsense=1"], "no option 'nonsense'"),
        ("random", ["hit-ratio-weight=x"], "'x' is not a number"),
        (" , ", [], "give names like cache_aware"),
    ],
)
def test_faults_are_told(policies, settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        variants_of(policies, settings)


def test_a_policy_of_ones_own_has_options_of_its_own(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("scheduler:\n  policy: a:B\n  policy-options: {long-tokens: 1, share: 2}\n")
    other, own = variants_of(
        "random,m:Mine:share=0.5:word=x", ['policy-options={"long-tokens": 7, "share": 3}'], str(path)
    )
    assert own.options.policy_options == {"long-tokens": 7, "share": 0.5, "word": "x"}
    assert own.options.policy_folder
    assert other.policy == "random"
