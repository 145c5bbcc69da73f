"""The statements of the full-text search, as templates.

Searches are counted apart or not. With filters or with phrases, the posts that are found are
ranked, and the list counts them. Without, only the posts up to the end of the page are ranked.
"""

from blog_api.web.pagination import MAX_OFFSET, MAX_PAGE_SIZE

LIMITS = {
    # Of the posts with all words of a phrase, the texts of so many are looked at, newest first.
    "max_phrase_posts": 20_000,
    # Of the posts with more words than the index holds, so many are searched without it, newest
    # first.
    "max_cut_posts": 20,
    # Of the posts that are found, so many are ranked, newest first: as many as pages reach.
    "max_ranked_posts": MAX_OFFSET + MAX_PAGE_SIZE,
    # To tell which term is the rarest one, the posts of each are counted so far. One that so many
    # posts have is frequent.
    "max_counted_posts": 20_000,
}

CUT = """
    cut AS MATERIALIZED (
        SELECT w.post_id, w.published_at, w.title_length FROM (
            SELECT post_id, published_at, title_length, folded FROM post_words
            WHERE is_cut AND published_at <= :now ORDER BY post_id DESC LIMIT {max_cut_posts}
        ) AS w
        WHERE {has_all_needles}
    ), not_indexed AS MATERIALIZED (
        SELECT * FROM cut WHERE post_id NOT IN ({indexed})
    )
"""
# Hidden posts are left out first: they do not change which posts are ranked.
FOUND = f"""
    WITH {{matched}}, {CUT}, found AS MATERIALIZED (
        SELECT post_id, published_at, title_length FROM matched
        UNION ALL SELECT * FROM not_indexed
    )
"""
MATCHED = "matched AS (SELECT w.post_id, w.published_at, w.title_length FROM {matching})"
MATCHED_WITH_NEEDLES = """matched AS (
    SELECT w.post_id, w.published_at, w.title_length
    FROM (SELECT w.post_id FROM {matching} ORDER BY w.post_id DESC LIMIT {max_phrase_posts}) AS i
    JOIN post_words AS w ON w.post_id = i.post_id
    WHERE {has_needles}
)"""
UNRANKED = f"{FOUND} SELECT post_id AS id, published_at, 0 AS rank, 0 AS number FROM found"
# Of posts with equal words, the one with the shorter title ranks first.
RANKED = f"""
    {FOUND}, oldest AS MATERIALIZED (
        SELECT min(post_id) AS post_id FROM (
            SELECT post_id FROM found ORDER BY post_id DESC LIMIT {{max_ranked_posts}}
        ) AS newest
    ), weighed AS (
        SELECT post_id, published_at, title_length, 0 AS weight FROM found
        UNION ALL SELECT post_id, NULL, NULL, weight FROM ({{weighed}}) AS tiers
    )
    SELECT post_id AS id, max(published_at) AS published_at,
           sum(weight) * 1000000 + 1000000 / (max(title_length) + 10) AS rank, 0 AS number
    FROM weighed GROUP BY post_id HAVING max(published_at) IS NOT NULL
"""

# Posts of a tier have all terms, but it is enough to look for the rarest one, and for none if all
# are frequent: FTS5 reads the whole list of a frequent beginning before it returns the first post.
# One of those that are searched without the index may have the rarest term and lack others there.
WEIGHED_ON_SQLITE = """
    WITH rarest AS MATERIALIZED (
        SELECT key AS term, value AS query, (
            SELECT count(*) FROM (
                SELECT 1 FROM post_search_words AS i WHERE i.post_search_words MATCH terms.value
                LIMIT {max_counted_posts}
            )
        ) AS number
        FROM json_each(:terms) AS terms ORDER BY number LIMIT 1
    ), tiers AS MATERIALIZED (
        SELECT json_extract(tiers.value, '$[1]')
            || CASE
                WHEN rarest.term <> json_extract(tiers.value, '$[0]')
                    AND rarest.number < {max_counted_posts}
                THEN ' AND ' || rarest.query ELSE ''
            END
            || json_extract(tiers.value, '$[2]') AS query,
            json_extract(tiers.value, '$[3]') AS weight
        FROM json_each(:tiers) AS tiers LEFT JOIN rarest ON TRUE
    )
    SELECT i.rowid AS post_id, tiers.weight FROM tiers CROSS JOIN post_search_words AS i
    WHERE i.post_search_words MATCH tiers.query AND i.rowid >= (SELECT post_id FROM oldest)
        AND i.rowid NOT IN (SELECT post_id FROM not_indexed)
"""
# The first posts by rank, and the number of all that match.
COUNTED_ON_SQLITE = f"""
    WITH {CUT}, hidden AS MATERIALIZED (
        SELECT post_id FROM post_words WHERE published_at IS NULL
        UNION ALL SELECT id FROM posts WHERE published_at > :now AND taken_down_at IS NULL
    ), groups AS MATERIALIZED (
        SELECT json_extract(value, '$[0]') AS query, json_extract(value, '$[1]') AS weight
        FROM json_each(:groups)
    ), matched AS MATERIALIZED (
        SELECT i.rowid AS post_id, groups.weight FROM groups CROSS JOIN post_search_words AS i
        WHERE i.post_search_words MATCH groups.query AND i.rowid NOT IN hidden
        UNION ALL SELECT post_id, 0 FROM not_indexed
    ), counted AS MATERIALIZED (
        SELECT count(*) AS number FROM matched
    ), oldest AS MATERIALIZED (
        SELECT CASE WHEN number > {{max_ranked_posts}} THEN (
            SELECT post_id FROM matched
            ORDER BY post_id DESC LIMIT 1 OFFSET {{max_ranked_posts}} - 1
        ) ELSE 0 END AS post_id FROM counted
    ), weights AS MATERIALIZED (
        SELECT post_id, sum(weight) AS weight FROM ({{weighed}}) AS weighed GROUP BY post_id
    ), ranked AS MATERIALIZED (
        SELECT m.post_id, (m.weight + coalesce(weights.weight, 0)) * 1000000
            + 1000000 / (w.title_length + 10) AS rank
        FROM matched AS m
        CROSS JOIN post_words AS w INDEXED BY ix_post_words_ranked ON w.post_id = m.post_id
        LEFT JOIN weights ON weights.post_id = m.post_id
        WHERE m.post_id >= (SELECT post_id FROM oldest)
        ORDER BY rank DESC, m.post_id DESC LIMIT :offset + :limit
    )
    SELECT ranked.post_id AS id, w.published_at, rank, number
    FROM ranked CROSS JOIN counted CROSS JOIN post_words AS w INDEXED BY ix_post_words_found
    ON w.post_id = ranked.post_id
"""
COUNTED_ON_POSTGRES = f"""
    WITH {CUT}
    SELECT post_id AS id, published_at, rank, number FROM post_words_ranked(
        CAST(:groups AS json), CAST(:tiers AS json), ARRAY(SELECT post_id FROM not_indexed),
        :now, {{max_ranked_posts}}, :offset + :limit
    )
"""

# The expressions that differ. The index of SQLite has the columns that are read: the rows of the
# table are as long as the texts.
ON_SQLITE = {
    "matching": (
        "post_search_words AS i JOIN post_words AS w INDEXED BY ix_post_words_found "
        "ON w.post_id = i.rowid WHERE i.post_search_words MATCH :words AND w.published_at <= :now"
    ),
    "indexed": (
        "SELECT rowid FROM post_search_words "
        "WHERE post_search_words MATCH :words AND rowid >= (SELECT min(post_id) FROM cut)"
    ),
    "has_needles": (
        "NOT EXISTS (SELECT 1 FROM json_each({}) AS needle WHERE instr(w.folded, value) = 0)"
    ),
    "weighed": WEIGHED_ON_SQLITE,
    "counted": COUNTED_ON_SQLITE,
}
ON_POSTGRES = {
    "matching": "post_words_matching(:words) AS w WHERE w.published_at <= :now",
    "indexed": (
        "SELECT post_id FROM post_words_weighed("
        "json_build_array(json_build_array(CAST(:words AS text), 0)), "
        "(SELECT min(post_id) FROM cut))"
    ),
    "has_needles": (
        "NOT EXISTS (SELECT 1 FROM json_array_elements_text(CAST({} AS json)) AS needle "
        "WHERE strpos(w.folded, needle) = 0)"
    ),
    "weighed": (
        "SELECT post_id, weight "
        "FROM post_words_weighed(CAST(:tiers AS json), (SELECT post_id FROM oldest))"
    ),
    "counted": COUNTED_ON_POSTGRES,
}
