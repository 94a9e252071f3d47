"""Zero-shot chain of thought: no demonstrations, two calls."""

from dataclasses import dataclass
from typing import Final

from icl.lm import LM, Request
from icl.trace import Problem, Trace, sampled
from templates import answers
from templates.answers import Reader
from templates.prompt import Prompt, Turn, extended, is_chat

# The phrases that the paper defines (Kojima et al. 2022, arXiv:2205.11916, Table 5 and Appendix A.5).
TRIGGER: Final = "Let's think step by step."
EXTRACT: Final = {
    "number": "Therefore, the answer (arabic numerals) is",
    "choice": "Therefore, among A through E, the answer is",
    "yes_no": "Therefore, the answer (Yes or No) is",
    "text": "Therefore, the answer is",
}


@dataclass(frozen=True)
class ZeroShotCoT:
    """Ask the model to think, then ask what its thinking comes to (Kojima et al. 2022, arXiv:2205.11916).

    Unlike `FewShotCoT`: two calls, z = LM(x, trigger) and y = LM(x, trigger, z, extract).

    Args:
        trigger: what starts the reasoning.
        extract: what asks for the answer; `cot.zero_shot.EXTRACT` has the paper's phrase for each kind of answer.
        max_tokens: of the reasoning.
        answer_tokens: of the answer.
    """

    trigger: str = TRIGGER
    extract: str = EXTRACT["number"]
    max_tokens: int = 512
    answer_tokens: int = 32

    async def __call__(self, problem: Problem, lm: LM) -> Trace:
        """Think, then conclude."""
        first = asking(problem.prompt, self.trigger)
        thinking = Request(first, max_tokens=self.max_tokens, stop=problem.template.stop, seed=problem.seed)
        thought = sampled(await lm.generate(thinking))
        second = concluding(first, thought[0].text, self.extract)
        concluded = Request(second, max_tokens=self.answer_tokens, stop=("\n",), seed=problem.seed)
        conclusion = sampled(await lm.generate(concluded), conclusion_reader(problem.reader), parents=(0,), start=1)
        return Trace(conclusion[0].answer, (*thought, *conclusion))


def asking(prompt: Prompt, trigger: str) -> Prompt:
    """The prompt with the trigger after it: in the answer's place in a text, in the question's turn in a chat."""
    return extended(prompt, f"\n\n{trigger}" if is_chat(prompt) else f" {trigger}")


def concluding(first: Prompt, reasoning: str, extract: str) -> Prompt:
    """The first prompt, what the model made of it, and the phrase that asks for the answer."""
    if is_chat(first):
        return (*first, Turn("assistant", reasoning), Turn("user", extract))
    return extended(first, f"{reasoning}\n{extract}")


def conclusion_reader(read: Reader) -> Reader:
    """The reader for a text that follows "the answer is": what comes first counts, not what comes last."""
    return read if read is answers.text else lambda text: read(f"The answer is {text}")
