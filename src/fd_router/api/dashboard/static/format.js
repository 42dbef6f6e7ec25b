/* Numbers, times and names as people read them. */

const html = htm.bind(preact.h);
const { useState, useEffect, useRef, useMemo } = preactHooks;

const DASH = "–";

function count(value) {
  return value === null || value === undefined ? DASH : value.toLocaleString("en-US");
}

function figure(value) {
  if (value === null || value === undefined) return DASH;
  if (Number.isInteger(value)) return count(value);
  return Math.abs(value) >= 100 ? count(Math.round(value)) : value.toPrecision(3);
}

function milliseconds(value) {
  if (value === null || value === undefined) return DASH;
  if (value >= 10000) return `${(value / 1000).toFixed(1)} s`;
  return `${value >= 100 ? Math.round(value) : value.toPrecision(value < 1 ? 2 : 3)} ms`;
}

function rate(value) {
  return value === null || value === undefined ? DASH : `${figure(value)}/s`;
}

function clockTime(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const whole = Math.floor(seconds / size);
  const next = units[first + 1];
  const rest = next ? Math.floor((seconds - whole * size) / next[1]) : 0;
  return rest ? `${whole} ${name} ${rest} ${next[0]}` : `${whole} ${name}`;
}

function hostOf(url) {
  return url.replace(/https?:\/\//g, "");
}

/* Where the page lies decides where its endpoints do: it may stand behind a proxy's path. */
function endpoint(path) {
  return new URL(`dashboard/${path}`, location.href).href;
}
