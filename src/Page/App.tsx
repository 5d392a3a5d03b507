export const App = () => <main>cal-tokens</main>
