// Bytes as base64, as messages hold them, and as base64url, as links do.
export function decodeBase64(payload) {
  const text = atob(payload), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

export const fromLink = (text) => decodeBase64(text.replace(/-/g, "+").replace(/_/g, "/"));

export const toLink = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
