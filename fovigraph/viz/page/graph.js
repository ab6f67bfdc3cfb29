// ---- the graph ----------------------------------------------------------------------------------

/** Paths between a unit and every unit of every level, by count. */
function pathsOf(level, unit) {
  const paths = levels.map((each) => new Float64Array(each.count));
  paths[level][unit] = 1;
  for (let to = level; to > 0; to--)
    for (const { from, ptr, src } of connectionsInto[to])
      for (let dst = 0; dst < paths[to].length; dst++) {
        const along = paths[to][dst];
        if (along) for (let e = ptr[dst]; e < ptr[dst + 1]; e++) paths[from][src[e]] += along;
      }
  for (let to = level + 1; to < levels.length; to++)
    for (const { from, ptr, src } of connectionsInto[to])
      if (from >= level)
        for (let dst = 0; dst < paths[to].length; dst++)
          for (let e = ptr[dst]; e < ptr[dst + 1]; e++) paths[to][dst] += paths[from][src[e]];
  return paths;
}

/** How many of a level's units are connected to the one that is selected. */
function reached(level) {
  return state.field[level].reduce((sum, paths) => sum + (paths > 0), 0);
}

/** The mean colour of what leads to every unit of the next level, [N · 3]. */
function meansAbove({ ptr, src }, below) {
  const above = new Uint8ClampedArray(3 * (ptr.length - 1));
  for (let dst = 0; dst < ptr.length - 1; dst++) {
    let r = 0,
      g = 0,
      b = 0;
    for (let e = ptr[dst]; e < ptr[dst + 1]; e++) {
      const at = 3 * src[e];
      r += below[at];
      g += below[at + 1];
      b += below[at + 2];
    }
    const count = Math.max(1, ptr[dst + 1] - ptr[dst]);
    above.set([r / count, g / count, b / count], 3 * dst);
  }
  return above;
}

let seen = []; // the colours of the levels' units at this gaze, from the retina up, once asked for

/** The colours of a level's units at this gaze: the mean of what leads to each, [N · 3]. */
function colorsOf(level) {
  if (!state.photo) return null;
  if (!seen.length) seen = [sampled(state.photo, state.gaze)];
  while (seen.length <= level)
    seen.push(meansAbove(graphs[seen.length - 1], seen[seen.length - 1]));
  return seen[level];
}
