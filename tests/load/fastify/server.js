// The read routes of the blog in Fastify, with prepared statements and JSON serialized by schema.

import { createHash } from 'node:crypto'
import Fastify from 'fastify'
import pg from 'pg'

const { DATABASE_URL, COUNT } = process.env

const app = Fastify({ logger: false })
const pool = new pg.Pool({ connectionString: DATABASE_URL })

const POST = `p.id, p.created_at, p.updated_at, p.title, p.content, p.slug, p.published_at, p.user_id,
  u.name AS user_name, p.tags, p.comment_count, p.bookmark_count`
const PUBLISHED = 'p.published_at <= now() AND p.taken_down_at IS NULL'

// Named statements are prepared once on each connection.
const statements = {
  list: `SELECT ${POST} FROM posts p JOIN users u ON u.id = p.user_id WHERE ${PUBLISHED}
    ORDER BY p.published_at DESC, p.id DESC LIMIT $1 OFFSET $2`,
  count: COUNT === 'counter'
    ? `SELECT coalesce(sum(delta), 0)::int AS total FROM post_counts
        WHERE user_id = 0 AND tag_id = 0`
    : `SELECT count(*)::int AS total FROM posts p WHERE ${PUBLISHED}`,
  post: `SELECT ${POST}, p.content_html FROM posts p JOIN users u ON u.id = p.user_id
    WHERE p.id = $1 AND ${PUBLISHED}`,
  me: `SELECT u.id, u.created_at, u.updated_at, u.name, u.email, u.is_active, u.is_admin
    FROM tokens t JOIN users u ON u.id = t.user_id
    WHERE t.digest = $1 AND t.refresh_digest IS NULL AND t.expires_at > now()`
}

async function rows (name, values = []) {
  return (await pool.query({ name, text: statements[name], values })).rows
}

function object (properties) {
  return { type: 'object', properties }
}

const integer = { type: 'integer' }
const string = { type: 'string' }
const boolean = { type: 'boolean' }
const time = { type: 'string', format: 'date-time' }
const post = {
  id: integer,
  created_at: time,
  updated_at: time,
  title: string,
  content: string,
  slug: string,
  published_at: time,
  user_id: integer,
  user_name: string,
  tags: { type: 'array', items: string },
  comment_count: integer,
  bookmark_count: integer
}
const user = {
  id: integer,
  created_at: time,
  updated_at: time,
  name: string,
  email: { type: ['string', 'null'] },
  is_active: boolean,
  is_admin: boolean
}

app.get('/posts', {
  schema: {
    querystring: object({
      page: { ...integer, minimum: 1, default: 1 },
      size: { ...integer, minimum: 1, maximum: 100, default: 10 }
    }),
    response: {
      200: object({ total_count: integer, results: { type: 'array', items: object(post) } })
    }
  }
}, async ({ query: { page, size } }) => {
  const [[{ total }], results] = await Promise.all([
    rows('count'), rows('list', [size, (page - 1) * size])
  ])
  return { total_count: total, results }
})

app.get('/posts/:id', {
  schema: {
    params: object({ id: integer }),
    response: { 200: object({ ...post, content_html: string }) }
  }
}, async ({ params: { id } }, reply) => {
  const [found] = await rows('post', [id])
  return found ?? reply.code(404).send({ detail: 'Post not found' })
})

app.get('/users/me', {
  schema: { response: { 200: object(user) } }
}, async ({ headers: { authorization = '' } }, reply) => {
  const token = /^Bearer (.+)$/i.exec(authorization)?.[1] ?? ''
  const digest = createHash('sha256').update(token).digest('hex')
  const [found] = await rows('me', [digest])
  if (!found?.is_active) {
    return reply.code(401).send({ detail: 'Not authenticated' })
  }
  return found
})

await app.listen({ host: '127.0.0.1', port: 0 })
