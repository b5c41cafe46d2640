// The handles of a visitor's own table: the share of signal at even distances in t.
const LEAST = 1e-6, APART = 1e-4; // of the handles: the least signal, and what lies between two of them, as a share

// The handles with the one at k moved to a share: the curve falls, so it stays between its neighbours.
export function moved(handles, k, share) {
  const above = k ? handles[k - 1] * (1 - APART) : 1 - APART, below = k + 1 < handles.length ? handles[k + 1] * (1 + APART) : LEAST;
  return handles.map((value, i) => (i === k ? Math.max(Math.min(share, above), below) : value));
}
