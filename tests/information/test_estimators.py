"""Estimators against exact information, theory with the best critic, scikit-learn, and bad input."""

import json
import math
import warnings

import pytest
import torch
from scipy.integrate import dblquad
from sklearn.feature_selection import mutual_info_regression

from infoclip_lite.figures.widgets import explore_renyi
from infoclip_lite.information import estimators as e
from infoclip_lite.information import gram, renyi_mutual_information
from infoclip_lite.information.critics import Training, infonce_bound
from infoclip_lite.information.tasks import get_task, list_tasks
from infoclip_lite.studies.information import run_benchmark, run_convergence, run_matrix_checks

QUICK = Training(steps=300, hidden=32, embedding=8)


def draw(task, n, seed=0):
    return task.sample(n, torch.Generator().manual_seed(seed))


def mean_and_error(values):
    values = torch.tensor(values, dtype=torch.float64)
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


# --- classical ---


@pytest.mark.parametrize("name", ["gaussian", "cca", "gaussian_copula"])
@pytest.mark.parametrize(
    ("task", "parameters"),
    [("normal", {}), ("normal", {"dim": 3}), ("dense_normal", {}), ("dense_normal", {"dim": 25})],
)
def test_gaussian_family_on_normal_tasks(name, task, parameters):
    task = get_task(task, **parameters)
    values = [getattr(e, name)(*draw(task, 10000, seed)).value for seed in range(5)]
    assert mean_and_error(values)[0] == pytest.approx(task.mutual_information, abs=0.02)


def test_bias_correction_is_exact_where_the_plug_in_is_far_off():
    task = get_task("normal", rho=0.0, dim=5)
    pairs = [draw(task, 30, seed) for seed in range(300)]
    plain, _ = mean_and_error([e.gaussian(*p, unbiased=False).value for p in pairs])
    mean, error = mean_and_error([e.gaussian(*p).value for p in pairs])
    assert plain > 0.4
    assert abs(mean) < 3 * error
    assert abs(mean) < 0.05


def test_cca_is_gaussian_in_other_coordinates():
    x, y = draw(get_task("dense_normal"), 500)
    assert e.cca(x, y).value == pytest.approx(e.gaussian(x, y).value, abs=1e-10)
    mixed = x @ torch.randn(5, 5, dtype=x.dtype, generator=torch.Generator().manual_seed(3))
    assert e.cca(mixed, y).value == pytest.approx(e.cca(x, y).value, abs=1e-8)
    assert (
        e.cca(x, y, components=1).value < e.cca(x, y, components=2).value < e.cca(x, y, unbiased=False).value
    )
    assert e.cca(torch.cat([x, x[:, :1]], 1), y).value == pytest.approx(e.cca(x, y).value, abs=1e-8)


def test_copula_does_not_see_increasing_maps_and_gaussian_does():
    x, y = draw(get_task("normal", rho=0.9), 4000)
    assert e.gaussian_copula(x**3, y.exp()).value == pytest.approx(e.gaussian_copula(x, y).value, abs=1e-12)
    assert e.gaussian(x**3, y.exp()).value < e.gaussian(x, y).value - 0.2


def test_gaussian_is_blind_to_dependence_without_correlation():
    task = get_task("asinh_student_t")
    x, y = draw(task, 10000)
    assert abs(e.gaussian(x, y).value) < 0.01
    assert e.ksg(x, y).value > 0.15


ONE_BY_ONE = [
    ("normal", {"rho": 0.5}),
    ("normal", {"rho": 0.9}),
    ("dense_normal", {"dim": 1}),
    ("staircase", {"information": 2.0, "dim": 1}),
    ("additive_uniform", {"noise": 0.75}),
    ("student_t", {"nu": 1.0}),
    ("asinh_student_t", {"nu": 1.0}),
    ("normal_cdf", {}),
    ("cube", {}),
]


def test_no_one_dimensional_task_is_forgotten():
    # these two need room to roll up
    assert {name for name, _ in ONE_BY_ONE} == set(list_tasks()) - {"swiss_roll", "spiral"}


@pytest.mark.parametrize(("name", "parameters"), ONE_BY_ONE)
def test_ksg_on_one_dimensional_tasks(name, parameters):
    task = get_task(name, **parameters)
    mean, _ = mean_and_error([e.ksg(*draw(task, 10000, seed)).value for seed in range(4)])
    assert mean == pytest.approx(task.mutual_information, abs=0.02)


def test_ksg_of_ranks_does_not_see_heavy_tails():
    task = get_task("student_t")
    raw, _ = mean_and_error([e.ksg(*draw(task, 10000, seed), ranks=False).value for seed in range(4)])
    assert raw < task.mutual_information - 0.02
    x, y = draw(task, 300)
    assert e.ksg(x**3, y.asinh()).value == pytest.approx(e.ksg(x, y).value, abs=1e-12)
    assert e.ksg(x**3, y.asinh(), ranks=False).value != pytest.approx(
        e.ksg(x, y, ranks=False).value, abs=1e-3
    )


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ksg_equals_scikit_learn(k):
    x, y = draw(get_task("normal"), 500)
    theirs = mutual_info_regression(x.numpy(), y[:, 0].numpy(), n_neighbors=k, random_state=0)[0]
    assert e.ksg(x, y, k=k, ranks=False).value == pytest.approx(theirs, abs=1e-6)  # it adds noise of 1e-10


def test_ksg_by_hand():
    """Four points, k = 1: every count is made by eye."""
    x, y = torch.tensor([0.0, 1.0, 3.0, 7.0]), torch.tensor([0.0, 1.0, 3.0, 7.0])
    # neighbours at 1, 1, 2, 4; strictly nearer in either margin: none but the sample itself
    from scipy.special import digamma

    with pytest.warns(e.LimitWarning):
        estimate = e.ksg(x, y, k=1, ranks=False)
    assert estimate.value == pytest.approx(digamma(1) + digamma(4) - 2 * digamma(1))
    assert estimate.upper_limit == pytest.approx(estimate.value)


# --- with the best critic there is ---


@pytest.mark.parametrize(("rho", "dim"), [(0.5, 1), (0.4, 3)])
def test_best_critic_means_agree_with_theory(rho, dim):
    task = get_task("normal", rho=rho, dim=dim)
    pairs = [draw(task, 512, seed) for seed in range(60)]
    theory = {"nwj": task.mutual_information, "club": dim * rho**2 / (1 - rho**2)}
    for name, expected in theory.items():
        mean, error = mean_and_error(
            [getattr(e, name)(x, y, task.log_ratio, batch_size=512).value for x, y in pairs]
        )
        assert abs(mean - expected) < 2 * error, name
    mean, error = mean_and_error(
        [e.donsker_varadhan(x, y, task.log_ratio, batch_size=512).value for x, y in pairs]
    )
    assert abs(mean - task.mutual_information) < 2 * error + 0.005  # the log of a mean reads a little high
    low, _ = mean_and_error([e.infonce(x, y, task.log_ratio, batch_size=64).value for x, y in pairs])
    high, _ = mean_and_error([e.leave_one_out(x, y, task.log_ratio, batch_size=64).value for x, y in pairs])
    assert low < task.mutual_information < high


def test_smile_tends_to_what_clipping_leaves():
    task, clip = get_task("normal", rho=0.8), 0.5

    def density(y, x):
        ratio = float(
            task.log_ratio(torch.tensor([[x]], dtype=torch.float64), torch.tensor([[y]], dtype=torch.float64))
        )
        return math.exp(min(max(ratio, -clip), clip) - (x * x + y * y) / 2) / (2 * math.pi)

    apart = dblquad(density, -6, 6, -6, 6, epsabs=2e-3, epsrel=2e-3)[0]
    values = [
        e.smile(*draw(task, 1000, s), task.log_ratio, clip=clip, batch_size=1000).value for s in range(20)
    ]
    mean, error = mean_and_error(values)
    assert abs(mean - (task.mutual_information - math.log(apart))) < 2 * error + 4e-3


def test_infonce_never_exceeds_log_batch():
    task = get_task("staircase", information=10)
    x, y = draw(task, 1024)
    for batch in (4, 32, 256):
        with pytest.warns(e.LimitWarning):
            estimate = e.infonce(x, y, task.log_ratio, batch_size=batch)
        assert estimate.upper_limit == pytest.approx(math.log(batch))
        assert estimate.value <= math.log(batch) + 1e-12
        assert any("limit" in note or "at most" in note for note in estimate.notes)
    scores = torch.randn(200, 6, 6, generator=torch.Generator().manual_seed(0)) * 20
    assert max(infonce_bound(s).item() for s in scores) <= math.log(6) + 1e-6


# --- trained critics ---


@pytest.mark.parametrize("name", ["infonce", "nwj", "donsker_varadhan", "smile"])
def test_trained_critics_come_near_the_truth_and_repeat(name):
    task = get_task("normal", rho=0.8)
    x, y = draw(task, 4000)
    state = torch.random.get_rng_state()
    estimate = getattr(e, name)(x, y, training=QUICK)
    assert torch.equal(state, torch.random.get_rng_state())
    assert estimate.value == pytest.approx(task.mutual_information, abs=0.12)
    assert estimate.unit == "nats"
    assert any("not seen" in note for note in estimate.notes)
    if name == "infonce":
        assert getattr(e, name)(x, y, training=QUICK).value == estimate.value


def test_upper_bounds_with_a_fitted_conditional_lie_above():
    task = get_task("normal", rho=0.8)
    x, y = draw(task, 4000)
    club, out = e.club(x, y, training=QUICK), e.leave_one_out(x, y, training=QUICK)
    assert club.value > out.value > task.mutual_information - 0.05
    assert club.value == pytest.approx(0.64 / 0.36, rel=0.25)


def test_trained_critics_find_nothing_where_there_is_nothing():
    x, y = draw(get_task("normal", rho=0.0), 2000)
    assert abs(e.infonce(x, y, training=QUICK).value) < 0.05


# --- benchmark and sliders ---


def test_benchmark_rows_are_errors_with_intervals():
    chosen = ["gaussian", "ksg"]
    tasks = (("normal", {"rho": 0.5}), ("additive_uniform", {}))
    report = run_benchmark(3, (200,), chosen, tasks, matrix_sizes=(50,))
    assert json.loads(json.dumps(report))["seeds"] == 3
    assert [(row["task"], row["estimator"]) for row in report["errors"]] == [
        (task, name) for task in ("normal rho=0.5 dim=1", "additive_uniform noise=0.75") for name in chosen
    ]
    task = get_task("normal", rho=0.5)
    errors = [e.gaussian(*draw(task, 200, seed)).value - task.mutual_information for seed in range(3)]
    row = report["errors"][0]
    assert row["mean"] == pytest.approx(sum(errors) / 3, abs=1e-5)
    assert row["low"] < row["mean"] < row["high"]
    half = 4.302653 * torch.tensor(errors).std().item() / math.sqrt(3)  # Student's t, two degrees of freedom
    assert row["high"] - row["mean"] == pytest.approx(half, abs=2e-5)


def test_matrix_checks_meet_their_limits():
    report = run_matrix_checks(batches=800)
    assert report["bfloat16_error"]["I_2"] <= 5e-4
    corrected = {
        (row["kernel"], row["n"], row["d"]): row["mean"]
        for row in report["independent"]
        if row["correction"] == "permutation"
    }
    assert all(abs(mean) <= 0.01 for (kernel, *_), mean in corrected.items() if kernel != "linear")
    assert corrected["linear", 4, 5] < -0.03  # diagonals vary: the documented exception
    assert len(corrected) == 15


def test_convergence_rows_are_relative_errors():
    report = run_convergence((40, 160), seeds=6)
    rows = {(row["n"], row["correction"], row["against"]): row for row in report["rows"]}
    assert len(rows) == 12
    assert report["exact"] == pytest.approx(0.3219, abs=5e-5)
    values = []
    for seed in range(6):
        a, b = (gram(z, "rbf", width=1.0) for z in draw(get_task("normal"), 160, seed))
        values.append(renyi_mutual_information(a, b, correction="ustatistic").item() / report["exact"] - 1)
    row = rows[160, "ustatistic", "population"]
    assert (row["mean"], row["one_sample"]) == pytest.approx(
        (sum(values) / 6, torch.tensor(values).std().item()), abs=1e-4
    )
    for n in (40, 160):
        assert (
            rows[n, "permutation", "sample"]["one_sample"]
            < rows[n, "permutation", "population"]["one_sample"]
        )


def test_moving_a_slider_computes_anew():
    explorer = explore_renyi()
    before = explorer.view
    explorer.controls["width"].value = 0.2
    assert explorer.view is not before and explorer.view.entropy_x > before.entropy_x


# --- bad input ---

X = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", list(e.ESTIMATORS))
@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (X, X[:-1], "pair up"),
        (X * math.nan, X, "NaN or infinite"),
        (X, X / 0, "NaN or infinite"),
        (X.long(), X, "floating point"),
        (X[:0], X[:0], "n >= 2"),
        (X[:1], X[:1], "n >= 2"),
        (X * 0 + 1, X, "constant"),
        (X[None], X[None], "(n, d)"),
    ],
)
def test_bad_samples_are_refused_in_words(name, x, y, says):
    with pytest.raises(ValueError) as error:
        e.ESTIMATORS[name](x, y)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: e.gaussian(X, X), "infinite"),
        (lambda: e.cca(X, X), "infinite"),
        (lambda: e.cca(X, X.flip(0), components=3), "components"),
        (lambda: e.gaussian(X[:4], X[:4]), "samples"),
        (lambda: e.ksg(X, X, k=40), "1 <= k"),
        (lambda: e.infonce(X, X), "samples"),
        (lambda: e.infonce(X, X, batch_size=1), "batch_size"),
        (lambda: e.infonce(X, X, lambda x, y: x @ y.T[:, :3]), "every x with every y"),
        (lambda: e.nwj(X, X, lambda x, y: 1e6 * x @ y.T), "overflow"),
        (lambda: e.smile(X, X, clip=0.0), "clip"),
    ],
)
def test_bad_options_are_refused_in_words(call, says):
    with pytest.raises(ValueError) as error:
        call()
    assert says in str(error.value)


def test_discrete_data_are_pointed_out():
    x, y = X.sign()[:, :1], X.sign()[:, 1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", e.LimitWarning)
        notes = e.ksg(x, y).notes + e.gaussian_copula(x, y).notes
    assert any("Distances repeat" in note for note in notes)
    assert any("ties" in note for note in notes)
