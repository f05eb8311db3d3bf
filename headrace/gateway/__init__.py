"""The world outside: webhooks to registered endpoints, and streams of payments' events. Always after the commit."""
