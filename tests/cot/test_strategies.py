from dataclasses import replace

import pytest

from cot import AdaptiveSelfConsistency, Direct, FewShotCoT, SelfConsistency, ZeroShotCoT
from cot.adaptive import unanimous
from icl import Completion, Demo, Example, Problem, Request, Usage
from icl.backends import Scripted
from templates import Template, Turn, load_template
from templates.answers import number, text, yes_no
from templates.errors import UserError

QUERY = Example("q/1", {"question": "9 * 2?"})
DEMO = Demo(Example("d/1", {"question": "1 + 1?"}, "2", "One and one."))
PLAIN = Problem(QUERY, load_template("math.cot.v1"), (DEMO,), seed=5)
SHOWN = "Q: 1 + 1?\nA: One and one. The answer is 2.\n\nQ: 9 * 2?\nA:"
ZERO = Problem(QUERY, load_template("math.zero-shot.v1"))


async def test_few_shot_cot() -> None:
    """Demonstrations ⟨x, r, y⟩ come first; the one greedy completion ends where the next question would begin."""
    lm = Scripted({SHOWN: " Nine twice. The answer is 18.\nQ: 3?"})
    trace = await FewShotCoT(max_tokens=100)(PLAIN, lm)
    assert trace.answer == "18"
    assert [(t.id, t.text, t.parents) for t in trace.thoughts] == [(0, " Nine twice. The answer is 18.", ())]
    assert lm.requests == [Request(SHOWN, max_tokens=100, stop=("\nQ:", "\n\nQ"), seed=5)]


async def test_direct() -> None:
    """The direct template shows answers alone, and the completion is a line."""
    lm = Scripted({"Q: 1 + 1?\nA: The answer is 2.\n\nQ: 9 * 2?\nA:": " The answer is 18.\nNo, 19."})
    assert (await Direct()(replace(PLAIN, template=load_template("math.direct.v1")), lm)).answer == "18"


async def test_chat_demonstrations_are_turns() -> None:
    """The same example as a chat: instruction, the demonstration's two turns, the question."""
    template = load_template("math.cot-chat.v1")
    turns = (
        Turn("system", template.instruction),
        Turn("user", "1 + 1?"),
        Turn("assistant", "One and one. The answer is 2."),
        Turn("user", "9 * 2?"),
    )
    assert (
        await FewShotCoT()(replace(PLAIN, template=template), Scripted({turns: "The answer is 18."}))
    ).answer == "18"


async def test_zero_shot_cot_is_two_calls() -> None:
    """z = LM(x, trigger), y = LM(x, trigger, z, extract); the number that comes first in y is the answer."""
    first = "Q: 9 * 2?\nA: Let's think step by step."
    second = first + " Two nines.\nTherefore, the answer (arabic numerals) is"
    trace = await ZeroShotCoT()(ZERO, Scripted({first: " Two nines.", second: " 18, not 20."}))
    assert trace.answer == "18"
    assert [(t.id, t.parents) for t in trace.thoughts] == [(0, ()), (1, (0,))]
    assert trace.usage.calls == 2


async def test_zero_shot_cot_as_a_chat() -> None:
    """The reasoning is the assistant's turn, the second phrase the user's."""
    problem = replace(ZERO, template=load_template("math.zero-shot-chat.v1"))
    first = (Turn("user", "9 * 2?\n\nLet's think step by step."),)
    second = (*first, Turn("assistant", "Two nines."), Turn("user", "Therefore, the answer (arabic numerals) is"))
    assert (await ZeroShotCoT()(problem, Scripted({first: "Two nines.", second: "18"}))).answer == "18"


@pytest.mark.parametrize(("reader", "said", "answer"), [(yes_no, " Yes.", "yes"), (text, " Paris.", "Paris.")])
async def test_zero_shot_cot_reads_other_kinds_of_answers(reader: object, said: str, answer: str) -> None:
    """The second call's text is read by the template's own reader."""
    problem = replace(ZERO, template=Template("{question}{answer}", reader=reader))  # type: ignore[arg-type]
    lm = Scripted(lambda request: said if "Therefore" in str(request.prompt) else "Hm.")
    assert (await ZeroShotCoT()(problem, lm)).answer == answer


async def test_self_consistency_is_one_request() -> None:
    """n paths, one request with the paper's sampling; three of five say 18 and one says nothing: 18 with share 3/5."""
    lm = Scripted({SHOWN: ["is 18", "is 20", "is 18.0", "dunno", "is $18"]})
    trace = await SelfConsistency(n=5)(PLAIN, lm)
    assert trace.votes is not None
    assert (trace.answer, trace.votes.share, trace.votes.unread) == ("18", 3 / 5, 1)
    assert [t.answer for t in trace.thoughts] == ["18", "20", "18", None, "18"]
    (request,) = lm.requests
    assert (request.n, request.temperature, request.top_k, request.seed, request.logprobs) == (5, 0.7, 40, 5, False)


async def test_equal_answers_vote_together_however_they_are_written() -> None:
    """1/2, 0.5 and 0.50 are three votes for one answer, shown as it was first written."""
    trace = await SelfConsistency(n=4)(PLAIN, Scripted({SHOWN: ["is 1/2", "is 2", "is 0.5", "is 0.50"]}))
    assert trace.votes is not None
    assert trace.votes.tally == {"1/2": 3, "2": 1}


async def test_self_consistency_counts_the_prompt_once() -> None:
    """Two samples of one prompt: one call, the prompt's tokens once, both completions'."""
    trace = await SelfConsistency(n=2)(PLAIN, Scripted({SHOWN: ["is 18", "it is 18"]}))
    assert trace.usage == Usage(calls=1, prompt_tokens=len(SHOWN.split()), completion_tokens=5)


async def test_nothing_read_is_no_answer() -> None:
    """When no path says a number the answer is None, not an empty vote."""
    trace = await SelfConsistency(n=2)(PLAIN, Scripted({SHOWN: "dunno"}))
    assert (trace.answer, trace.votes and trace.votes.unread) == (None, 2)


@pytest.mark.parametrize(("weigh", "winner"), [("majority", "20"), ("normalised", "18"), ("unnormalised", "18")])
async def test_weighted_votes(weigh: str, winner: str) -> None:
    """One path at probability 0.9 says 18, two at 0.1 say 20; each has one token, so both weights are 0.9 to 0.2."""

    class Sure:
        name = "sure"

        async def generate(self, request: Request) -> list[Completion]:
            assert request.logprobs == (weigh != "majority")
            return [Completion(f"is {a}", tokens=1, logprob=lp) for a, lp in [(18, -0.105), (20, -2.3), (20, -2.3)]]

    assert (await SelfConsistency(n=3, weigh=weigh)(PLAIN, Sure())).answer == winner  # type: ignore[arg-type]


async def test_adaptive_stops_when_settled() -> None:
    """Five equal answers settle it: P(p > ½) = 1 - 2^-6 = 0.984. With 3 to 2 it is 0.66: a second window."""
    sure = Scripted({SHOWN: ["is 18"] * 40})
    assert (await AdaptiveSelfConsistency(most=40, window=5)(PLAIN, sure)).answer == "18"
    assert len(sure.requests) == 1
    split = Scripted({SHOWN: ["is 18", "is 20", "is 18", "is 20", "is 18"] + ["is 18"] * 5})
    trace = await AdaptiveSelfConsistency(most=10, window=5)(PLAIN, split)
    assert [(r.n, r.seed) for r in split.requests] == [(5, 5), (5, 10)]
    assert [t.id for t in trace.thoughts] == list(range(10))
    assert trace.usage.calls == 2


async def test_adaptive_takes_what_leads_when_the_limit_is_hit() -> None:
    """Seven paths that never settle: windows of 5 and 2, and the leading answer wins."""
    lm = Scripted({SHOWN: ["is 1", "is 2", "is 1", "is 2", "is 3", "is 2", "is 4"]})
    trace = await AdaptiveSelfConsistency(most=7, window=5)(PLAIN, lm)
    assert trace.answer == "2"
    assert [r.n for r in lm.requests] == [5, 2]


async def test_adaptive_samples_are_those_of_the_full_vote() -> None:
    """Sample i has the same seed in both strategies, so a cache serves both."""
    lm = Scripted({SHOWN: ["is 1", "is 2", "is 3", "is 4"]})
    full = await SelfConsistency(n=4)(PLAIN, lm)
    adaptive = await AdaptiveSelfConsistency(most=4, window=2)(PLAIN, lm)
    assert [t.text for t in adaptive.thoughts] == [t.text for t in full.thoughts]


def test_unanimous_window() -> None:
    """The last window counts; a window that cannot be read is not unanimous."""
    stop = unanimous(3)
    assert stop(["1", "2", "2", "2"])
    assert not stop(["2", "2"])
    assert not stop(["2", "2", "1"])
    assert not stop([None, None, None])


async def test_rules_to_stop_by_name() -> None:
    """The rule "unanimous" looks at the last window alone: three 18s after a 20 stop it, where "settled" goes on."""
    said = ["is 20", "is 20", "is 20", "is 18", "is 18", "is 18", "is 1", "is 2", "is 3"]
    asked = {}
    for rule in ("unanimous", "settled"):
        lm = Scripted({SHOWN: ["is 19", *said[1:]]})
        await AdaptiveSelfConsistency(most=9, window=3, stop=rule)(PLAIN, lm)
        asked[rule] = len(lm.requests)
    assert asked == {"unanimous": 2, "settled": 3}


def test_bad_settings_are_refused() -> None:
    """Greedy paths are all the same, and a window larger than the whole never ends."""
    with pytest.raises(UserError, match="temperature > 0 and n ≥ 1, got temperature=0"):
        SelfConsistency(temperature=0)
    with pytest.raises(UserError, match="a window has a path at least, got window=0"):
        AdaptiveSelfConsistency(most=4, window=0)
    with pytest.raises(UserError, match='stop is "settled", "unanimous" or a function of the answers, got 3'):
        AdaptiveSelfConsistency(stop=3)  # type: ignore[arg-type]


def test_reader_of_the_problem_is_the_template_s() -> None:
    """One place says how answers are read."""
    assert PLAIN.reader is number
