"""HTTP/2 by prior knowledge: frames and HPACK are h2's, requests, windows and limits are here."""
