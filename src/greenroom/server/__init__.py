"""The HTTP server: agents over JSON, events as a live stream, the dashboard (extra `greenroom[server]`).

A face: thin over the public API, in the process and on the loop of an `AsyncRuntime`. The deciding code is
plain and knows nothing of HTTP libraries (`access`, `addresses`, `feed`, `rates`, `shown`, the table in
`problems`); `gate` refuses, Litestar routes (`api`, `app`), uvicorn listens (`hosting`). Importing this
package imports none of them.
"""
