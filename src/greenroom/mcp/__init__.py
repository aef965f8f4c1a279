"""The MCP server: agents of a runtime as durable, bounded sub-agents of any MCP client.

`greenroom mcp` starts it (the extra `greenroom[mcp]`). Which agents a client reaches is in `trees`, what
the tools say and take in `tools`, what they do in `subagents`; `server` and `transports` are the protocol,
by the official SDK.
"""
