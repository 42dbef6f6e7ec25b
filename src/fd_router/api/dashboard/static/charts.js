/* Sparklines: a minute of one figure as a line. What they show stands beside them in digits. */

const POINTS = 60;
const WIDTH = 120;
const HEIGHT = 24;

/* One more value at the end of a history; null is a gap. */
function pushed(history, value) {
  return [...(history || []), value ?? null].slice(-POINTS);
}

function linePath(values) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return "";
  const high = Math.max(...known) || 1;
  const step = WIDTH / (POINTS - 1);
  const start = POINTS - values.length;
  let path = "";
  let drawing = false;
  values.forEach((value, index) => {
    if (value === null) {
      drawing = false;
      return;
    }
    const x = ((start + index) * step).toFixed(1);
    const y = (HEIGHT - 2 - (value / high) * (HEIGHT - 4)).toFixed(1);
    path += drawing ? `L${x} ${y}` : `M${x} ${y}h.1`;
    drawing = true;
  });
  return path;
}

function Sparkline({ values }) {
  return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
    <path d=${linePath(values || [])} />
  </svg>`;
}

function Tile({ name, value, values, note }) {
  return html`<div class="tile">
    <dt>${name}</dt>
    <dd><span class="value">${value}</span>${note && html`<span class="note">${note}</span>`}
      ${values && html`<${Sparkline} values=${values} />`}</dd>
  </div>`;
}

function Traffic({ state, history }) {
  const traffic = state.traffic || {};
  const queued = Object.values(state.queue).reduce((sum, number) => sum + number, 0);
  const running = state.instances.reduce((sum, one) => sum + (one.role === "decode" ? 0 : one.running), 0);
  const waiting = Object.entries(state.queue).filter(([, number]) => number);
  return html`<section aria-labelledby="traffic">
    <h2 id="traffic">Traffic</h2>
    <dl class="tiles">
      <${Tile} name="Requests" value=${rate(traffic.rate)} values=${history.rate} />
      <${Tile} name="Failed" value=${rate(traffic.failed)} values=${history.failed} />
      <${Tile} name="Time to first token" value=${milliseconds(traffic.ttft_ms)} values=${history.ttft}
        note=${`95 % below ${milliseconds(traffic.ttft_p95_ms)}`} />
      <${Tile} name="Time per token" value=${milliseconds(traffic.ms_per_token)} note="estimated from bytes of streams" />
      <${Tile} name="Running" value=${count(running)} values=${history.running} />
      <${Tile} name="Waiting" value=${count(queued)} values=${history.queued}
        note=${waiting.map(([name, number]) => `${name} ${number}`).join(", ")} />
    </dl>
    ${traffic.models && traffic.models.length > 0 && html`<${Models} models=${traffic.models} />`}
  </section>`;
}

function Models({ models }) {
  return html`<${Scrollable} label="Traffic by model">
    <table>
      <thead><tr><th scope="col">Model</th><th scope="col" class="number">Requests</th>
        <th scope="col" class="number">Failed</th><th scope="col" class="number">First token</th></tr></thead>
      <tbody>${models.map((one) => html`<tr key=${one.model}>
        <th scope="row">${one.model}</th><td class="number">${rate(one.rate)}</td>
        <td class="number">${rate(one.failed)}</td><td class="number">${milliseconds(one.ttft_ms)}</td></tr>`)}</tbody>
    </table>
  <//>`;
}

/* A table that is wider than a phone scrolls in its own box, by keyboard too. */
function Scrollable({ label, children }) {
  return html`<div class="scrollable" role="region" aria-label=${label} tabindex="0">${children}</div>`;
}
