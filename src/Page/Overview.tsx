/** How the whole service stands: one sentence, the totals, what is wrong, and the last hour and the next as charts. */
import type { ComponentChildren } from "preact"
import * as Charts from "./Charts.js"
import { Demo } from "./Demo.js"
import * as Format from "./Format.js"
import { Instant } from "./Instant.js"
import * as Live from "./Live.js"
import type { Circuit, Overview as Facts } from "./Wire.js"
import * as Words from "./Words.js"
import "./overview.css"

const Verdict = ({ overview }: { readonly overview: Facts }) => {
  const isOld = Live.useLive(({ is }) => is !== "live")
  const { level, more, text } = Words.verdict(overview)
  return (
    <div class={`verdict ${isOld ? "neutral" : level}`}>
      <span class="verdict-sign" aria-hidden="true" />
      <div>
        <h1>{isOld ? `At ${Format.clockWithSeconds(overview.at)}: ${text}` : text}</h1>
        {more.map((sentence) => (
          <p key={sentence}>{sentence}</p>
        ))}
      </div>
    </div>
  )
}

const Figure = ({
  children,
  name,
  value
}: {
  name: string
  value: ComponentChildren
  children?: ComponentChildren
}) => (
  <div class="figure">
    <dt>{name}</dt>
    <dd class="figure-value">{value}</dd>
    <dd class="quiet">{children}</dd>
  </div>
)

const Users = ({ active, isEstimated }: Facts["users"]) =>
  isEstimated ? (
    <>
      <small>about</small> {Format.rounded(active)}
    </>
  ) : (
    <>{Format.count(active)}</>
  )

const Totals = ({ overview }: { readonly overview: Facts }) => {
  const { circuits, expiries, refreshes, users } = overview
  const refreshed = Words.add(refreshes.minutes, (minute) => Words.sum(minute.refreshed))
  const failed = Words.add(refreshes.minutes, Words.failures)
  const ending = Words.add(expiries.minutes, (minute) => minute.users)
  return (
    <dl class="totals panel" aria-label="Totals">
      <Figure name="Connected" value={<Users {...users} />}>
        {users.active === 1 ? "user" : "users"}
      </Figure>
      <Figure name="Have to reconnect" value={Format.count(users.reauthorizationRequired)}>
        {users.reauthorizationRequired === 0 ? "nobody" : <a href="#/reconnect">Who, and why</a>}
      </Figure>
      <Figure name="Refreshed, last hour" value={Format.count(refreshed)}>
        {refreshes.latency === undefined ? "none" : `half in ${Format.took(refreshes.latency.p50)} or less`}
      </Figure>
      <Figure name="Failed, last hour" value={Format.count(failed)}>
        {failed === 0 ? "none" : `${Words.share(failed, failed + refreshed)} of all`}
      </Figure>
      <Figure name="End in the next hour" value={Format.count(ending)}>
        {expiries.overdue === 0 ? "none overdue" : `${Format.count(expiries.overdue)} overdue`}
      </Figure>
      <Figure name="Circuits" value={circuits.length === 0 ? "All closed" : `${circuits.length} open`}>
        {circuits.length === 0 ? "nothing is held back" : "see below"}
      </Figure>
    </dl>
  )
}

const OpenCircuit = ({ circuit }: { readonly circuit: Circuit }) => {
  const { meaning, title } = Words.circuit(circuit)
  const { clientId, nextTrialAt, openedAt, reason } = circuit
  return (
    <li class="circuit">
      <h3>{title}</h3>
      <p>{meaning}</p>
      <dl class="facts">
        {clientId !== undefined && (
          <div>
            <dt>Client</dt>
            <dd class="mono">{clientId}</dd>
          </div>
        )}
        {reason !== undefined && (
          <div>
            <dt>Reason</dt>
            <dd>{reason}</dd>
          </div>
        )}
        {openedAt !== undefined && (
          <div>
            <dt>Open</dt>
            <dd>
              <Instant at={openedAt} as={Format.since} />
            </dd>
          </div>
        )}
        {nextTrialAt !== undefined && (
          <div>
            <dt>Next trial</dt>
            <dd>
              <Instant at={nextTrialAt} as={Format.due} />
            </dd>
          </div>
        )}
      </dl>
    </li>
  )
}

const Circuits = ({ circuits }: { readonly circuits: ReadonlyArray<Circuit> }) =>
  circuits.length === 0 ? null : (
    <section class="panel is-broken" aria-labelledby="circuits">
      <div class="panel-head">
        <h2 id="circuits">{Format.counted(circuits.length, "circuit is open", "circuits are open")}</h2>
        <p class="quiet">Until a trial succeeds, {circuits.length === 1 ? "its" : "their"} users are not refreshed.</p>
      </div>
      <ul class="circuits">
        {circuits.map((circuit) => (
          <OpenCircuit key={`${circuit.cause} ${circuit.clientId}`} circuit={circuit} />
        ))}
      </ul>
    </section>
  )

const Kept = ({ pairsHeld, sealedAnswers }: Facts) =>
  pairsHeld === 0 && sealedAnswers === 0 ? null : (
    <section class="panel is-attention" aria-labelledby="kept">
      <div class="panel-head">
        <h2 id="kept">Kept apart</h2>
      </div>
      <dl class="facts">
        {sealedAnswers > 0 && (
          <div>
            <dt>{Format.counted(sealedAnswers, "answer", "answers")}</dt>
            <dd>
              Cal.com answered in a way that nobody could read. It is kept encrypted, with the tokens in it, until a
              version reads it: install the latest.
            </dd>
          </div>
        )}
        {pairsHeld > 0 && (
          <div>
            <dt>{Format.counted(pairsHeld, "pair", "pairs")}</dt>
            <dd>
              New tokens that could not be stored, in the memory of this process alone. It goes on trying: do not end it
              before the database is back.
            </dd>
          </div>
        )}
      </dl>
    </section>
  )

const Nobody = () => (
  <section class="panel empty">
    <h2>Connect the first user</h2>
    <p>
      Send somebody to consent with <code>POST /api/cal/oauth/authorize-url</code>, create a managed user with{" "}
      <code>POST /api/cal/managed-users</code>, or hand over tokens that you have with{" "}
      <code>PUT /api/cal/connections</code>. What happens to them shows here at once.
    </p>
    <p>
      <a href="docs">All endpoints, to try out</a>
    </p>
  </section>
)

/** What is there before the first answer: as high as what comes. */
const Loading = () => (
  <div class="overview" aria-busy="true">
    <div class="verdict neutral">
      <span class="verdict-sign" aria-hidden="true" />
      <h1>Reading how it stands …</h1>
    </div>
    <div class="totals panel">
      {Array.from({ length: 6 }, (_, index) => (
        <div key={index} class="figure">
          <span class="skeleton of-name" />
          <span class="skeleton of-value" />
          <span class="skeleton of-name" />
        </div>
      ))}
    </div>
    <div class="panel of-refreshes">
      <span class="skeleton of-name" />
    </div>
    <div class="charts">
      <div class="panel of-chart">
        <span class="skeleton of-name" />
      </div>
      <div class="panel of-chart">
        <span class="skeleton of-name" />
      </div>
    </div>
  </div>
)

const Reasons = ({ overview }: { readonly overview: Facts }) => {
  const all = Words.reasons(overview)
  if (all.length === 0) return null
  const lately = `Last ${Words.span(Words.lately(overview).minutes)}`
  return (
    <section class="panel" aria-labelledby="reasons">
      <div class="panel-head">
        <h2 id="reasons">Why refreshes failed</h2>
      </div>
      <div class="table-frame">
        <table class="table cards">
          <thead>
            <tr>
              <th scope="col">Reason</th>
              <th scope="col" class="number">
                {lately}
              </th>
              <th scope="col" class="number">
                Last hour
              </th>
              <th scope="col">Latest</th>
            </tr>
          </thead>
          <tbody>
            {all.map(({ at, hour, lately: now, text }) => (
              <tr key={text}>
                <th scope="row">{Format.capital(text)}</th>
                <td class="number" data-label={lately}>
                  {Format.count(now)}
                </td>
                <td class="number" data-label="Last hour">
                  {Format.count(hour)}
                </td>
                <td data-label="Latest">
                  <Instant at={at} as={Format.point} isStop={false} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  )
}

/** Of more clients a table tells more than charts. */
const maxCharts = 4

export const Overview = () => {
  const overview = Live.useOverview()
  if (overview === undefined) return <Loading />
  const { at, budgets, circuits, expiries, refreshes, users } = overview
  const isEmpty = users.active + users.reauthorizationRequired === 0
  return (
    <div class="overview">
      <Verdict overview={overview} />
      <Totals overview={overview} />
      <Circuits circuits={circuits} />
      <Kept {...overview} />
      {isEmpty && <Nobody />}
      <Demo />
      <Charts.Refreshes minutes={refreshes.minutes} />
      <Reasons overview={overview} />
      <div class="charts">
        <Charts.Expiries expiries={expiries} />
        <Charts.Latency refreshes={refreshes} />
        {budgets.length > maxCharts ? (
          <Charts.CallsLeftTable budgets={budgets} />
        ) : (
          budgets.map((budget) => (
            <Charts.CallsLeft key={`${budget.kind} ${budget.clientId}`} at={at} budget={budget} />
          ))
        )}
      </div>
    </div>
  )
}
