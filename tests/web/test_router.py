"""Which route answers: fixed before parameter, per method, strict about slashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_kit import step

from iii.errors import StepError
from iii.step import Step, http
from iii.web.router import BadPath, BuiltIn, Route, Router


def routed(*routes: str) -> list[Step]:
    """Steps named by their route: "GET /a"."""
    steps = []
    for number, route in enumerate(routes):
        method, _, path = route.partition(" ")
        steps.append(step(lambda: None, http(method, path), name=f"Step{number}", description=route))
    return steps


def found(router: Router, method: str, path: str) -> tuple[str, dict[str, str]] | None:
    match = router.match(method, path)
    if match is None:
        return None
    assert isinstance(match.route, Route)
    return match.route.step.description, match.params


ROUTER = Router(
    routed(
        "GET /",
        "GET /users",
        "POST /users",
        "GET /users/me",
        "GET /users/{id}",
        "DELETE /users/{id}",
        "GET /users/{id}/posts/{post}",
        "GET /users/me/likes",
        "GET /{page}",
        "GET /café",
        "POST /users/{id}/{action}",
        "POST /users/me/{action}",
    )
)

CASES = {
    ("GET", "/"): ("GET /", {}),
    ("GET", "/users"): ("GET /users", {}),
    ("GET", "/users/me"): ("GET /users/me", {}),
    ("GET", "/users/7"): ("GET /users/{id}", {"id": "7"}),
    ("GET", "/users/%6De"): ("GET /users/me", {}),
    ("GET", "/users/me%2F"): ("GET /users/{id}", {"id": "me/"}),
    ("GET", "/users%2Fme"): ("GET /{page}", {"page": "users/me"}),
    ("DELETE", "/users/me"): ("DELETE /users/{id}", {"id": "me"}),
    ("GET", "/users/me/posts/1"): ("GET /users/{id}/posts/{post}", {"id": "me", "post": "1"}),
    ("GET", "/users/me/likes"): ("GET /users/me/likes", {}),
    ("GET", "/about"): ("GET /{page}", {"page": "about"}),
    ("GET", "/caf%C3%A9"): ("GET /café", {}),
    ("POST", "/users/me/ban"): ("POST /users/me/{action}", {"action": "ban"}),
    ("POST", "/users/7/ban"): ("POST /users/{id}/{action}", {"id": "7", "action": "ban"}),
    ("HEAD", "/users/7"): ("GET /users/{id}", {"id": "7"}),
}


@pytest.mark.parametrize(("asked", "answer"), CASES.items(), ids=lambda value: str(value))
def test_the_route_is_found(asked: tuple[str, str], answer: tuple[str, dict[str, str]]) -> None:
    assert found(ROUTER, *asked) == answer


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/users/"),
        ("GET", "/users//posts/1"),
        ("GET", "//"),
        ("GET", "/users/7/posts"),
        ("GET", "/users/7/posts/1/"),
        ("GET", "/Users/7/posts/1"),
        ("PUT", "/users"),
        ("DELETE", "/users"),
        ("get", "/users"),
        ("GET", ""),
        ("GET", "*"),
    ],
)
def test_nothing_else_is_found(method: str, path: str) -> None:
    assert found(ROUTER, method, path) is None


def test_the_methods_of_a_path_are_known() -> None:
    assert ROUTER.allowed("/users") == ["GET", "HEAD", "OPTIONS", "POST"]
    assert ROUTER.allowed("/users/7") == ["DELETE", "GET", "HEAD", "OPTIONS"]
    assert ROUTER.allowed("/a/b") == []
    assert ROUTER.allowed("*") == ["DELETE", "GET", "HEAD", "OPTIONS", "POST"]


@pytest.mark.parametrize("path", ["/users/%ff", "/%C3", "/a/%c3%28"])
def test_a_path_that_is_not_utf8_is_refused(path: str) -> None:
    with pytest.raises(BadPath):
        ROUTER.match("GET", path)


@pytest.mark.parametrize(
    "routes", [("GET /a", "GET /a"), ("GET /a/{x}", "GET /a/{y}"), ("GET /{x}/b", "GET /{y}/b")]
)
def test_two_steps_on_one_route_are_refused_with_both_names(routes: tuple[str, str]) -> None:
    with pytest.raises(StepError, match="Step0"):
        Router(routed(*routes))


def test_a_step_takes_a_built_in_page_and_one_of_another_method_does_not() -> None:
    page = BuiltIn("/health", lambda: None)  # type: ignore[arg-type,return-value]
    for taking in ("GET /health", "GET /{any}"):
        match = Router(routed(taking), [page]).match("GET", "/health")
        assert match is not None
        assert isinstance(match.route, Route)
    router = Router(routed("POST /health"), [page])
    match = router.match("GET", "/health")
    assert match is not None
    assert match.route is page
    assert router.allowed("/health") == ["GET", "HEAD", "OPTIONS", "POST"]


SEGMENT = st.sampled_from(["a", "b", "{x}", "{y}"])
PATHS = st.lists(st.lists(SEGMENT, min_size=1, max_size=4), min_size=1, max_size=8)
ASKED = st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1, max_size=4)


def _shape(route: list[str]) -> tuple[str, ...]:
    return tuple("{}" if part.startswith("{") else part for part in route)


@given(PATHS, ASKED)
def test_the_tree_agrees_with_trying_all_routes_in_order_of_precedence(
    routes: list[list[str]], asked: list[str]
) -> None:
    named = [[f"{{p{at}}}" if part.startswith("{") else part for at, part in enumerate(r)] for r in routes]
    distinct = list({_shape(route): route for route in named}.values())
    router = Router(routed(*("GET /" + "/".join(route) for route in distinct)))
    fitting = [
        route
        for route in distinct
        if len(route) == len(asked)
        and all(
            part == given or (part.startswith("{") and given)
            for part, given in zip(route, asked, strict=True)
        )
    ]
    best = min(fitting, key=lambda route: [part.startswith("{") for part in route], default=None)
    answer = found(router, "GET", "/" + "/".join(asked))
    assert (answer[0] if answer else None) == ("GET /" + "/".join(best) if best else None)
