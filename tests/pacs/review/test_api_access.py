"""Who gets in, over a real server."""

import json
import logging
import socket
import ssl
import threading

import httpx
import pytest
from certificates import Authority
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from small_images import as_bytes, make_image

from freezeframe.pacs.configuration import Tls, Web
from freezeframe.pacs.intake.keeping import Keeper
from freezeframe.pacs.review import page
from freezeframe.pacs.review.app import make_app
from freezeframe.pacs.review.protection import Protection
from freezeframe.pacs.security import audit
from freezeframe.pacs.security.slowing import BY_USER
from freezeframe.pacs.tables import Login

PASSWORD = "three words and more"
WEB = Web(port=0)


@pytest.fixture
def at(web_node, served):
    """Address of a served node without anything special."""
    with served(web_node.app, WEB) as url:
        yield url


def log_in(client: httpx.Client, user: str = "reader", password: str = PASSWORD, **more) -> httpx.Response:
    return client.post("/api/login", json={"user": user, "password": password}, **more)


def test_a_login_sets_a_cookie_that_scripts_and_other_sites_can_not_use(at):
    with httpx.Client(base_url=at) as client:
        answer = log_in(client)
        cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "Path=/", "SameSite=strict", "Max-Age=43200"} <= set(cookie.split("; "))
        assert "Secure" not in cookie
        assert client.get("/api/me").json() == answer.json()
        assert {name: answer.json()[name] for name in ("user", "role", "language")} == {
            "user": "reader", "role": "reader", "language": "en",
        }  # fmt: skip


def test_over_tls_the_cookie_is_secure_and_for_this_host_only(make_node, served, tmp_path):
    signed = Authority(tmp_path / "certificates").sign("server")
    tls = Tls(certificate=signed.certificate, key=signed.key, require_client=False)
    web = Web(port=0, tls=tls)
    node = make_node(web=web.model_dump(mode="json"))
    context = ssl.create_default_context(cafile=signed.authority)
    with served(node.app, web) as url, httpx.Client(base_url=url, verify=context) as client:
        answer = log_in(client)
        assert answer.headers["set-cookie"].startswith("__Host-freezeframe=")
        assert "Secure" in answer.headers["set-cookie"].split("; ")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert client.get("/api/me").status_code == 200


def test_behind_a_proxy_that_serves_by_https_the_cookie_is_secure_and_for_this_host_only(make_node, served):
    node = make_node(web={"port": 0, "https": True})
    with served(node.app, WEB) as url:
        answer = httpx.post(f"{url}/api/login", json={"user": "reader", "password": PASSWORD}, timeout=60)
        cookie, *flags = answer.headers.get_list("set-cookie")[-1].split("; ")
        assert cookie.startswith("__Host-freezeframe=")
        assert {"Secure", "Path=/"} <= set(flags)
        assert not any(flag.startswith("Domain") for flag in flags)
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        # As the proxy passes it on: by HTTP.
        passed_on = {"Cookie": cookie, "X-CSRF-Token": answer.json()["csrf_token"]}
        assert httpx.get(f"{url}/api/me", headers=passed_on).json()["user"] == "reader"
        gone = httpx.post(f"{url}/api/logout", headers=passed_on).headers["set-cookie"]
        assert gone.startswith("__Host-freezeframe=")
        assert "Secure" in gone.split("; ")


def test_after_a_logout_the_cookie_opens_nothing(at):
    with httpx.Client(base_url=at) as client:
        token = log_in(client).json()["csrf_token"]
        kept = dict(client.cookies)
        assert client.post("/api/logout", headers={"X-CSRF-Token": token}).status_code == 200
        assert not client.cookies
        assert (
            client.get("/api/me", headers={"Cookie": f"freezeframe={kept['freezeframe']}"}).status_code == 401
        )


def test_a_new_login_ends_the_session_that_the_browser_had(at, web_node):
    with httpx.Client(base_url=at) as client:
        log_in(client)
        log_in(client, "admin")
        assert client.get("/api/me").json()["user"] == "admin"
    with web_node.rows.database.reading() as session:
        assert session.query(Login).count() == 1


PROTECTED = [
    ("GET", "/api/me"), ("GET", "/api/node"), ("GET", "/api/studies"), ("GET", "/api/studies/1.2.3.1"),
    ("GET", "/api/images/1.2.3.1.1"), ("GET", "/api/images/1.2.3.1.1/frames/0"),
    ("GET", "/api/results/1/heat-maps/1.2.3.1.1/0"), ("GET", "/api/dashboard"), ("GET", "/api/audit"),
    ("POST", "/api/logout"), ("POST", "/api/results/1/feedback"), ("POST", "/api/studies/1.2.3.1/rerun"),
    ("POST", "/api/deliveries/1/retry"), ("POST", "/api/deliveries/1/withhold"), ("POST", "/api/alarms/acknowledge"),
]  # fmt: skip


def test_every_route_of_the_api_is_among_those_that_are_tried_here(web_node):
    templates = {
        (method, route.path)
        for route in routes_of(web_node.app.router)
        for method in route.methods
        if route.path.startswith("/api/") and route.path != "/api/login"
    }
    assert len(templates) == len(PROTECTED)


def routes_of(router):
    for route in router.routes:
        if hasattr(route, "methods"):
            yield route
        elif hasattr(route, "original_router"):
            yield from routes_of(route.original_router)


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("cookie", ["", "freezeframe=guess", "freezeframe="])
def test_without_a_session_nothing_is_told(web_node, method, path, cookie):
    web_node.result()
    client = web_node.make_client()
    answer = client.request(method, path, json={"verdict": "agree"}, headers={"Cookie": cookie})
    assert answer.status_code == 401
    assert answer.json() == {"detail": "Log in first."}


ALLOWED = {
    "viewer": {("GET", path) for method, path in PROTECTED if method == "GET" and path != "/api/audit"}
    | {("POST", "/api/logout")},
    "sender": set(),
}
ALLOWED["reader"] = ALLOWED["viewer"] | {("POST", "/api/results/1/feedback")}
ALLOWED["admin"] = set(PROTECTED)


@pytest.mark.parametrize("role", ALLOWED)
def test_each_role_may_do_what_it_is_for_and_no_more(web_node, role):
    web_node.result()
    for method, path in sorted(PROTECTED, key=lambda route: route[1] == "/api/logout"):
        client = web_node.as_(role)
        answer = client.request(method, path, json={"verdict": "agree"})
        assert (answer.status_code != 403) == ((method, path) in ALLOWED[role]), (method, path)


def test_what_a_role_may_not_is_audited(web_node):
    web_node.as_("viewer").get("/api/audit")
    lines = web_node.as_("admin").get("/api/audit").json()["entries"]
    assert any((line["who"], line["what"]) == ("viewer", audit.ACCESS_REFUSED) for line in lines)


@pytest.mark.parametrize("token", [None, "", "wrong", "csrf2", "ñ".encode()])
def test_a_change_without_the_sessions_csrf_token_is_refused(web_node, token):
    web_node.result()
    client = web_node.as_("reader")
    client.headers.pop("X-CSRF-Token")
    headers = {} if token is None else {"X-CSRF-Token": token}
    answer = client.post("/api/results/1/feedback", json={"verdict": "agree"}, headers=headers)
    assert answer.status_code == 403
    assert "X-CSRF-Token" in answer.json()["detail"]


def test_the_csrf_token_of_another_session_does_not_help(at):
    with httpx.Client(base_url=at) as mine, httpx.Client(base_url=at) as other:
        log_in(mine)
        foreign = log_in(other, "admin").json()["csrf_token"]
        assert mine.post("/api/logout", headers={"X-CSRF-Token": foreign}).status_code == 403


@pytest.mark.parametrize(
    "more",
    [
        {"content": json.dumps({"user": "reader", "password": PASSWORD}), "headers": {"Content-Type": "text/plain"}},
        {"content": "user=reader&password=x", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"json": {"user": "reader", "password": PASSWORD}, "headers": {"Sec-Fetch-Site": "cross-site"}},
    ],
)  # fmt: skip
def test_another_sites_form_can_not_log_anybody_in(web_node, more):
    answer = web_node.make_client().post("/api/login", **more)
    assert answer.status_code in (403, 422)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "body", ["", "x", "[]", "{}", '{"user": 1}', '{"user": "a", "password": "' + "x" * 2000 + '"}']
)
def test_a_login_that_is_none_is_refused_and_not_sent_back(web_node, body):
    answer = web_node.make_client().post(
        "/api/login", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert "xxx" not in answer.text


def test_guessing_a_password_is_slowed_with_the_time_to_wait(at):
    with httpx.Client(base_url=at, timeout=60) as client:
        answers = [log_in(client, "reader", f"guess number {number}") for number in range(BY_USER.free + 1)]
        assert [answer.status_code for answer in answers] == [401] * BY_USER.free + [429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        # Headers that pretend to be from elsewhere don't help.
        pretended = log_in(
            client, "reader", "guess", headers={"X-Forwarded-For": "10.9.9.9", "Forwarded": "for=10.9.9.9"}
        )
        assert pretended.status_code == 429
        assert log_in(client, "admin").status_code == 200


def test_the_address_is_the_one_that_called_whatever_the_headers_say(at, web_node):
    with httpx.Client(base_url=at) as client:
        log_in(client, headers={"X-Forwarded-For": "10.9.9.9", "X-Real-IP": "10.9.9.9"})
    entries = web_node.as_("admin").get("/api/audit").json()["entries"]
    assert {entry["target"] for entry in entries if entry["what"] == audit.LOGIN} == {"127.0.0.1"}


PROXY = {"user_header": "X-Forwarded-User", "role_header": "X-Forwarded-Role", "networks": ["127.0.0.0/8"]}
HEADERS = {"X-Forwarded-User": "carla", "X-Forwarded-Role": "reader"}


def test_without_a_configured_proxy_its_headers_mean_nothing(at):
    assert httpx.get(f"{at}/api/me", headers=HEADERS).status_code == 401


def test_headers_from_elsewhere_than_the_proxys_network_mean_nothing(make_node, served):
    node = make_node(web={"port": 0, "proxy": {**PROXY, "networks": ["10.0.0.0/8"]}})
    with served(node.app, WEB) as url:
        assert httpx.get(f"{url}/api/me", headers=HEADERS).status_code == 401


def test_a_configured_proxy_says_who_it_is(make_node, served):
    node = make_node(web={"port": 0, "proxy": PROXY})
    node.result()
    with served(node.app, WEB) as url, httpx.Client(base_url=url, headers=HEADERS) as client:
        me = client.get("/api/me").json()
        assert (me["user"], me["role"]) == ("carla", "reader")
        assert client.post("/api/results/1/feedback", json={"verdict": "agree"}).status_code == 403
        done = client.post(
            "/api/results/1/feedback", json={"verdict": "agree"}, headers={"X-CSRF-Token": me["csrf_token"]}
        )
        assert done.json()["user"] == "carla"
        assert client.get("/api/audit").status_code == 403
        assert httpx.get(f"{url}/api/me").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Forwarded-User", "carla")], [("X-Forwarded-User", "carla"), ("X-Forwarded-Role", "root")],
        [("X-Forwarded-User", "carla"), ("X-Forwarded-User", "dora"), ("X-Forwarded-Role", "admin")],
        [("X-Forwarded-User", "carla"), ("X-Forwarded-Role", "viewer"), ("X-Forwarded-Role", "admin")],
        [("X-Forwarded-User", ""), ("X-Forwarded-Role", "admin")],
        [("X-Forwarded-User", "x" * 65), ("X-Forwarded-Role", "admin")],
    ],
)  # fmt: skip
def test_a_proxy_that_is_not_clear_lets_nobody_in(make_node, served, headers):
    node = make_node(web={"port": 0, "proxy": PROXY})
    with served(node.app, WEB) as url:
        assert httpx.get(f"{url}/api/me", headers=headers).status_code == 403


def stow(url: str, auth, number: int = 1) -> httpx.Response:
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + as_bytes(make_image(number)) + b"\r\n--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    return httpx.post(
        f"{url}/dicom-web/studies", content=body, headers={"Content-Type": kind}, auth=auth, timeout=60
    )


def test_images_are_taken_from_a_sender_and_from_nobody_else(web_node, served):
    rows = web_node.rows
    app = make_app(rows.database, rows.configuration, Keeper(rows.database, rows.configuration))
    with served(app, WEB) as url:
        refused = stow(url, None)
        assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
        assert stow(url, ("viewer", PASSWORD)).status_code == 403
        assert stow(url, ("sender", "wrong")).status_code == 401
        assert stow(url, ("sender", PASSWORD)).status_code == 200
        assert stow(url, ("sender", PASSWORD), 2).status_code == 200
        # Not by the cookie of a page either, so that no other site can send images.
        with httpx.Client(base_url=url) as client:
            log_in(client, "admin")
            assert client.post("/dicom-web/studies", content=b"").status_code == 401
            entries = client.get("/api/audit").json()["entries"]
    logins = [entry for entry in entries if (entry["who"], entry["what"]) == ("sender", audit.LOGIN)]
    assert [entry["detail"] for entry in logins] == ["basic authentication"]


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic /////w==", "Bearer x", "Basic cmVhZGVy"])
def test_a_broken_basic_login_is_none(web_node, header):
    rows = web_node.rows
    app = make_app(rows.database, rows.configuration, Keeper(rows.database, rows.configuration))
    with TestClient(app) as client:
        assert client.post("/dicom-web/studies", headers={"Authorization": header}).status_code == 401


def test_every_answer_forbids_what_a_page_of_patients_needs_not(at):
    for path in ("/", "/api/me", "/api/none", "/assets/none.js"):
        headers = httpx.get(at + path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert "http" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_patient_data_is_stored_by_no_browser(web_node):
    web_node.result()
    client = web_node.as_("viewer")
    for path in ("/api/studies", "/api/studies/1.2.3.1", "/api/me"):
        assert client.get(path).headers["cache-control"] == "no-store"


def test_the_api_is_not_described_by_pages_that_load_scripts_from_elsewhere(at):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert "swagger" not in httpx.get(at + path).text.lower()


def test_a_large_request_is_refused_before_it_is_read(at):
    with httpx.Client(base_url=at) as client:
        answer = client.post("/api/login", content=b"x" * 70_000)
        assert answer.status_code == 413
        chunks = (b"x" * 10_000 for _ in range(20))
        assert (
            client.post(
                "/api/login", content=chunks, headers={"Content-Type": "application/json"}
            ).status_code
            == 413
        )


@pytest.fixture
def failing():
    routes = APIRouter()

    @routes.get("/api/failing")
    def fail() -> None:
        raise RuntimeError("PHANTOM^SECRET")

    return routes


def test_an_error_of_ours_tells_neither_the_caller_nor_the_log_its_text(make_node, served, failing, caplog):
    node = make_node(routers=(failing,))
    with caplog.at_level(logging.DEBUG), served(node.app, WEB) as url:
        answer = httpx.get(f"{url}/api/failing")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "The node could not do this; its log says where it failed."}
    assert answer.headers["cache-control"] == "no-store"
    (record,) = [record for record in caplog.records if record.name == "freezeframe.pacs.review.protection"]
    assert record.reason.startswith("RuntimeError at test_api_access.py:")
    assert "SECRET" not in caplog.text


def test_a_searched_name_is_not_in_the_log(web_node, served, caplog):
    with caplog.at_level(logging.DEBUG), served(web_node.app, WEB) as url:
        httpx.get(f"{url}/api/studies", params={"text": "PHANTOM"})
    # Of the server's side; httpx, the client, logs its own addresses.
    lines = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert not any("PHANTOM" in line for line in lines)


@pytest.mark.parametrize(
    "request_",
    [b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET /%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 999,
     b"POST /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"],
)  # fmt: skip
def test_malformed_requests_do_not_end_the_server(at, request_):
    port = int(at.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert httpx.get(f"{at}/api/me").status_code == 401


def test_many_people_at_once_are_served(at, web_node):
    web_node.result()
    codes: list[int] = []

    def look(user: str) -> None:
        with httpx.Client(base_url=at, timeout=120) as client:
            log_in(client, user)
            codes.extend(client.get("/api/studies/1.2.3.1").status_code for _ in range(3))

    threads = [threading.Thread(target=look, args=(user,)) for user in ("viewer", "reader", "admin") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert codes == [200] * 18


@pytest.fixture
def built(tmp_path):
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets/main-1.js").write_text("start()")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def page_client(built):
    app = FastAPI()
    app.include_router(page.router(built))
    app.add_middleware(Protection, https=False)
    return TestClient(app)


@pytest.mark.parametrize("path", ["/", "/studies/1.2.3", "/dashboard", "/index.html", "/apiary"])
def test_every_address_of_the_page_gives_its_one_file(page_client, path):
    assert page_client.get(path).text == "<!doctype html>"
    assert page_client.head(path).status_code == 200


def test_files_with_a_hash_in_their_name_are_kept_by_browsers(page_client):
    answer = page_client.get("/assets/main-1.js")
    assert answer.text == "start()"
    assert "javascript" in answer.headers["content-type"]
    assert "immutable" in answer.headers["cache-control"]


def test_what_browsers_did_not_find_they_ask_for_again(page_client):
    assert page_client.get("/assets/main-2.js").headers["cache-control"] == "no-store"


def test_an_address_that_is_longer_than_any_files_name_is_the_pages(page_client):
    assert page_client.get(f"/{'x' * 300}").text == "<!doctype html>"


@pytest.mark.parametrize("path", ["/api/x", "/dicom-web/x", "/metrics", "/health", "/assets/none.js"])
def test_what_is_not_the_pages_is_not_found(page_client, path):
    assert page_client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/..%2fsecret.txt", "/assets/..%2f..%2fsecret.txt", "/%00", "//secret.txt"]
)
def test_no_address_leads_out_of_the_pages_folder(page_client, path):
    assert page_client.get(path).text != "secret"


def test_a_page_that_was_not_built_says_what_to_do(built):
    app = FastAPI()
    app.include_router(page.router(built / "none"))
    answer = TestClient(app).get("/")
    assert answer.status_code == 503
    assert "make page" in answer.text
