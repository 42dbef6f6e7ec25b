/* The live lists: decisions, failures, API keys. */

const KEPT = 50;

/* The newest first; what the page had before stays. */
function merged(before, more) {
  return [...[...(more || [])].reverse(), ...before].slice(0, KEPT);
}

function Decisions({ decisions, unseen, seesAll }) {
  return html`<section aria-labelledby="decisions">
    <h2 id="decisions">Decisions <span class="note">the last ones; 5 a second at most are explained${unseen ? `, ${count(unseen)} more in the last second` : ""}</span></h2>
    ${!seesAll && html`<p>Log in to see them.</p>`}
    ${seesAll && !decisions.length && html`<p>No request has come since the page was opened.</p>`}
    ${decisions.length > 0 && html`<${Scrollable} label="Decisions">
      <table>
        <thead><tr><th scope="col">Time</th><th scope="col">Role</th><th scope="col">Instance</th>
          <th scope="col" class="number">Hit</th><th scope="col" class="number">Score</th><th scope="col" class="number">Load</th>
          <th scope="col" class="number">Prompt tokens</th><th scope="col">Why</th></tr></thead>
        <tbody>${decisions.map((one) => html`<tr>
          <td>${clockTime(one.at)}</td><td>${one.role}${one.model && ` · ${one.model}`}</td><th scope="row">${hostOf(one.url)}</th>
          <td class="number">${one.hit === null ? DASH : `${one.hit} %`}</td><td class="number">${figure(one.score)}</td>
          <td class="number">${figure(one.load)}</td><td class="number">≈ ${count(one.tokens)}</td>
          <td class="words">${one.reason}</td></tr>`)}</tbody>
      </table>
    <//>`}
  </section>`;
}

function Trouble({ one }) {
  const what = one.kind === "instance" ? hostOf(one.url) : `${one.path} → ${one.url ? hostOf(one.url) : "nobody"} (${one.status || "cut off"})`;
  return html`<li class=${one.is_good ? "good" : "bad"}>
    <span class="time">${clockTime(one.at)}</span>
    <span><strong>${what}</strong>: ${one.cause}
      ${one.attempts && one.attempts.length > 0 && html`<ul>${one.attempts.map((attempt) => html`<li>${hostOf(attempt.url)}: ${attempt.cause}</li>`)}</ul>`}
    </span>
  </li>`;
}

function Troubles({ troubles, unseen, seesAll }) {
  return html`<section aria-labelledby="failures">
    <h2 id="failures">Failures and changes ${unseen > 0 && html`<span class="note">${count(unseen)} more in the last second</span>`}</h2>
    ${!seesAll && html`<p>Log in to see them.</p>`}
    ${seesAll && !troubles.length && html`<p>None so far.</p>`}
    ${troubles.length > 0 && html`<ul class="troubles">${troubles.map((one) => html`<${Trouble} one=${one} />`)}</ul>`}
  </section>`;
}

function limitText(left, limit) {
  return limit ? `${count(left)} of ${count(limit)}` : "no limit";
}

function Keys({ keys }) {
  if (!keys.length) return null;
  return html`<section aria-labelledby="keys">
    <h2 id="keys">API keys</h2>
    <${Scrollable} label="API keys">
      <table>
        <thead><tr><th scope="col">Key</th><th scope="col">Priority</th><th scope="col" class="number">Running</th>
          <th scope="col" class="number">Requests left this minute</th><th scope="col" class="number">Tokens left this minute</th>
          <th scope="col" class="number">Requests</th><th scope="col" class="number">Refused</th><th scope="col" class="number">Tokens</th></tr></thead>
        <tbody>${keys.map((one) => html`<tr key=${one.name}>
          <th scope="row">${one.name}</th><td>${one.priority}</td>
          <td class="number">${count(one.running)}${one.max_concurrent ? ` / ${count(one.max_concurrent)}` : ""}</td>
          <td class="number">${limitText(one.requests_left, one.requests_per_minute)}</td>
          <td class="number">${limitText(one.tokens_left, one.tokens_per_minute)}</td>
          <td class="number">${count(one.requests)}</td><td class="number">${count(one.refused)}</td>
          <td class="number">${count(one.tokens)}</td></tr>`)}</tbody>
      </table>
    <//>
  </section>`;
}
