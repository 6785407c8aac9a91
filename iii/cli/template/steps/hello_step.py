"""POST /hello answers at once and sends hello.said; the same step takes that message and counts the name."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from iii import Context, StepConfig, http, queue


class Hello(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=100)]


config = StepConfig(
    name="Hello",
    triggers=[http("POST", "/hello", body_schema=Hello), queue("hello.said", input=Hello)],
    enqueues=["hello.said"],
)


async def handler(input: Any, ctx: Context) -> dict[str, str] | None:
    if ctx.trigger.type == "http":
        hello: Hello = input.body
        await ctx.enqueue("hello.said", hello)
        return {"greeting": f"Hello, {hello.name}!"}
    await ctx.state.update("greetings", input.name, [{"type": "increment", "path": "count"}])
    ctx.logger.info("Counted", {"name": input.name})
    return None
