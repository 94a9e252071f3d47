import re

import pytest

from icl.backends import Scripted
from icl.lm import Completion, Request, Score
from templates.errors import UnscriptedPrompt, Unsupported
from templates.prompt import Turn

ASK = "Q: 9 * 2?\nA:"


def texts(completions: list[Completion]) -> list[str]:
    """What was said."""
    return [completion.text for completion in completions]


async def test_one_text_per_sample() -> None:
    """The i-th sample is the i-th text; tokens are words."""
    lm = Scripted({ASK: ["is 18", "is 20", "18"]})
    assert await lm.generate(Request(ASK, n=3, temperature=0.7)) == [
        Completion("is 18", prompt_tokens=5, tokens=2),
        Completion("is 20", prompt_tokens=5, tokens=2),
        Completion("18", prompt_tokens=5, tokens=1),
    ]


async def test_one_text_for_all() -> None:
    """A single text is what every sample says, however often."""
    lm = Scripted({ASK: "18"})
    for _ in range(2):
        assert texts(await lm.generate(Request(ASK, n=3))) == ["18", "18", "18"]


async def test_windows_go_on_where_the_last_ended() -> None:
    """Five samples at seed s and five more at s + 5 are the first ten; asked for again, a seed says the same again."""
    lm = Scripted({ASK: list("abcdefghij")})
    first, second = Request(ASK, n=5, seed=900), Request(ASK, n=5, seed=905)
    assert texts(await lm.generate(first)) == list("abcde")
    assert texts(await lm.generate(second)) == list("fghij")
    assert texts(await lm.generate(first)) == list("abcde")
    assert texts(await lm.generate(Request(ASK, n=2, seed=904))) == ["e", "f"]


async def test_unrelated_seeds_take_the_next_texts() -> None:
    """Two requests whose seeds have nothing to do with each other share the list in the order in which they came."""
    lm = Scripted({ASK: ["a", "b", "c"]})
    assert texts(await lm.generate(Request(ASK, n=2, seed=10**6))) == ["a", "b"]
    assert texts(await lm.generate(Request(ASK, seed=3))) == ["c"]


async def test_restart() -> None:
    """After a restart the lists begin again, and nothing is recorded."""
    lm = Scripted({ASK: ["a", "b"]}, scores={(ASK, "x"): -1.0})
    await lm.generate(Request(ASK))
    await lm.score(ASK, ["x"])
    lm.restart()
    assert (lm.requests, lm.scored) == ([], [])
    assert texts(await lm.generate(Request(ASK, seed=7))) == ["a"]


async def test_more_samples_than_texts() -> None:
    """A list that is too short says how long it is."""
    with pytest.raises(UnscriptedPrompt, match=r"sample 3 was asked of .*, which has 2 texts in the script"):
        await Scripted({ASK: ["a", "b"]}).generate(Request(ASK, n=3))


async def test_an_unknown_prompt_shows_the_nearest() -> None:
    """A prompt that differs by a space fails, with the difference from the nearest scripted one."""
    lm = Scripted({"Something else": "", ASK: "18", (Turn("user", "Hi"),): ""})
    with pytest.raises(UnscriptedPrompt) as caught:
        await lm.generate(Request(ASK + " "))
    assert str(caught.value).endswith("--- nearest in the script\n+++ asked\n@@ -1,2 +1,2 @@\n Q: 9 * 2?\\n\n-A:\n+A: ")
    assert lm.requests == [Request(ASK + " ")]


async def test_an_empty_script() -> None:
    """A script that holds nothing shows what was asked."""
    with pytest.raises(UnscriptedPrompt, match=re.escape(f"the script is empty, and was asked:\n{ASK}")):
        await Scripted({}).generate(Request(ASK))


async def test_turns_are_not_text() -> None:
    """A chat is found by its turns; a text that reads the same is another prompt."""
    chat = (Turn("system", "Be brief."), Turn("user", "9 * 2?"))
    lm = Scripted({chat: "18"})
    assert texts(await lm.generate(Request(chat))) == ["18"]
    with pytest.raises(UnscriptedPrompt):
        await lm.generate(Request("[system] Be brief.\n[user] 9 * 2?"))


async def test_a_function_for_a_script() -> None:
    """A function of the request gives a text for all samples, or one for each."""
    assert texts(await Scripted(lambda request: f"seed {request.seed}").generate(Request("a", n=2))) == ["seed 0"] * 2
    lm = Scripted(lambda request: [str(request.seed + i) for i in range(2)])
    assert texts(await lm.generate(Request("a", n=2, seed=5))) == ["5", "6"]
    with pytest.raises(UnscriptedPrompt, match="the script gave 2 texts for n=3 samples of 'a'"):
        await lm.generate(Request("a", n=3))


async def test_stop_strings_cut() -> None:
    """A text ends before the stop string that comes first in it; without one it is whole."""
    lm = Scripted({ASK: "is 18.\n\nQ: next. END"})
    assert texts(await lm.generate(Request(ASK, stop=("END", "\n\n")))) == ["is 18."]
    assert texts(await lm.generate(Request(ASK, stop=("nowhere",)))) == ["is 18.\n\nQ: next. END"]


async def test_requests_are_recorded() -> None:
    """Every request is there to be looked at, in order."""
    lm = Scripted({"a": "1", "b": "2"})
    await lm.generate(Request("b", max_tokens=7))
    await lm.generate(Request("a"))
    assert lm.requests == [Request("b", max_tokens=7), Request("a")]


async def test_scores() -> None:
    """A scripted log-probability is that of a single token; one that is missing is named, and without any none is."""
    lm = Scripted({}, scores={(ASK, " yes"): -0.5, (ASK, " no"): -1.5})
    assert await lm.score(ASK, [" no", " yes"]) == [Score((-1.5,)), Score((-0.5,))]
    assert lm.scored == [(ASK, (" no", " yes"))]
    with pytest.raises(UnscriptedPrompt, match=r"no score for \[' maybe'\]"):
        await lm.score(ASK, [" yes", " maybe"])
    with pytest.raises(Unsupported, match="scripted cannot score"):
        await Scripted({}).score(ASK, [" yes"])
